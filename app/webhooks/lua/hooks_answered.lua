-- include attempts
-- include frees
-- Notes the outcome of an attempt to send a post.
-- KEYS[1] prefix
-- ARGV    node | post | now in ms | the attempt as JSON | its row for the journal
--         | outcome: 'delivered'; 'retry': it is sent again at this time; 'parked': it waits for an operator; 'off': the
--         same, and the webhook is off | time in ms, or with 'off' the digest of the webhook's configuration
-- Answers 1, or 0 when the lease is another node's: that one sends the post again.
if call('GET', P .. 'hook_lease') ~= ARGV[1] then return 0 end
local id, now, outcome = ARGV[2], ARGV[3], ARGV[6]
local key, counts = P .. 'hook_post:' .. id, P .. 'hook_counts'
note_attempt(ARGV[4], ARGV[5])
local held = call('HMGET', key, 'bytes', 'replayed')
if not held[1] then return 1 end

-- The bounds of parked posts. Past either the oldest go.
local MOST_PARKED = 1000
local MOST_PARKED_BYTES = 16000000

local function forget_post(post, field)
  call('HINCRBY', counts, field, -tonumber(call('HGET', P .. 'hook_post:' .. post, 'bytes') or 0))
  call('UNLINK', P .. 'hook_post:' .. post)
end

if outcome == 'retry' then
  call('HINCRBY', key, 'tries', 1)
  call('ZADD', P .. 'hook_posts', ARGV[7], id)
  return 1
end
call('ZREM', P .. 'hook_posts', id)
if outcome == 'delivered' then
  forget_post(id, held[2] and 'parked_bytes' or 'bytes')
  return 1
end
if outcome == 'off' then call('SET', P .. 'hook_off', ARGV[7]) end
call('ZADD', P .. 'hook_parked', now, id)
if not held[2] then
  call('HINCRBY', counts, 'bytes', -tonumber(held[1]))
  call('HINCRBY', counts, 'parked_bytes', held[1])
end
local count = call('ZCARD', P .. 'hook_parked')
while count > 1 and (count > MOST_PARKED or tonumber(call('HGET', counts, 'parked_bytes')) > MOST_PARKED_BYTES) do
  local oldest = call('ZRANGE', P .. 'hook_parked', 0, 0)[1]
  forget_post(oldest, 'parked_bytes')
  call('ZREM', P .. 'hook_parked', oldest)
  call('HINCRBY', counts, 'dropped', 1)
  count = count - 1
end
return 1
