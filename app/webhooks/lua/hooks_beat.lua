-- include clock
-- include presence
-- include frees
-- The beat of a node for one site: takes or keeps the lease on sending its events, and tells of users whose time without
-- any device is over.
-- KEYS[1] prefix
-- ARGV    now | node | ms that the lease lasts, 0 gives it back | ms until `hook_events` expires
--         | digest of the webhook's configuration | most users told in one run
-- Answers { -1 } when `hook_events` is gone, { 0 } when another node has the lease, or { 1, 1 when the webhook is off,
--           events in the outbox, events dropped so far, posts to be sent, parked posts, users that are due still }.
local now, node = clock(ARGV[1]), ARGV[2]
local holder = call('GET', P .. 'hook_lease')
if holder and holder ~= node then return { 0 } end
if ARGV[3] == '0' then
  call('DEL', P .. 'hook_lease')
  return { 0 }
end
if call('PEXPIRE', P .. 'hook_events', ARGV[4]) == 0 then return { -1 } end
call('SET', P .. 'hook_lease', node, 'PX', ARGV[3])
local off = call('GET', P .. 'hook_off')
if off and off ~= ARGV[5] then
  call('DEL', P .. 'hook_off')
  off = false
end
local due = call('ZRANGEBYSCORE', P .. 'leaving', '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[6]))
local told = presence_of_site()
for i = 1, #due, 2 do
  if told then told.finish(due[i], tonumber(due[i + 1])) else call('ZREM', P .. 'leaving', due[i]) end
end
local counts = call('HMGET', P .. 'hook_counts', 'dropped')
return { 1, off and 1 or 0, call('XLEN', P .. 'hooks'), tonumber(counts[1] or 0), call('ZCARD', P .. 'hook_posts'),
  call('ZCARD', P .. 'hook_parked'), #due == 2 * tonumber(ARGV[6]) and 1 or 0 }
