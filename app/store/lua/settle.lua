-- include site
-- include frees
-- Notes that the _resync of these devices has arrived: the next connect need not repeat it, unless more was lost since.
-- KEYS[1] prefix
-- ARGV    last seq that the _resync covers | handle ...
for i = 2, #ARGV do
  local key = P .. 'device:' .. ARGV[i]
  local lost = call('HGET', key, 'lost')
  if lost and tonumber(lost) <= tonumber(ARGV[1]) then call('HDEL', key, 'lost') end
end
return redis.status_reply('OK')
