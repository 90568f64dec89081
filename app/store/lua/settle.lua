-- include shared
-- The _resync of these devices has arrived: it need not be repeated at the next connect, unless more was lost since.
-- KEYS[1] prefix
-- ARGV    last seq that the _resync covers | handle ...
for i = 2, #ARGV do
  local key = P .. 'device:' .. ARGV[i]
  local lost = call('HGET', key, 'lost')
  if lost and tonumber(lost) <= tonumber(ARGV[1]) then call('HDEL', key, 'lost') end
end
return redis.status_reply('OK')
