-- include clock
-- include inside
-- include frees
-- The beat of a node for a site with presence: keeps it on, and ends the grace of users whose time has come.
-- KEYS[1] prefix
-- ARGV    now | grace in ms | members above which a room has a number only | ms until presence is off without a beat;
--         what is known of users expires when twice the time is over | most users in one run
-- Answers { 1 when presence was off before, ms until the grace of the next user ends, or -1 }.
local now, most = clock(ARGV[1]), tonumber(ARGV[5])
local was_off = call('SET', P .. 'presence', ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4], 'GET') == false
for _, key in ipairs({ 'present', 'parting' }) do call('PEXPIRE', P .. key, 2 * ARGV[4]) end
if was_off and call('EXISTS', P .. 'watched') == 1 then
  -- Users have come meanwhile: rooms that are watched are to be read again.
  for _, room in ipairs(call('SMEMBERS', P .. 'watched')) do call('HDEL', P .. 'watch:' .. room, 'is_read') end
end
for _, user in ipairs(call('ZRANGEBYSCORE', P .. 'parting', '-inf', now, 'LIMIT', 0, most)) do
  inside_of_site().finish(user, tonumber(call('ZSCORE', P .. 'parting', user)))
end
local first = call('ZRANGE', P .. 'parting', 0, 0, 'WITHSCORES')[2]
return { was_off and 1 or 0, first and math.max(0, tonumber(first) - now) or -1 }
