-- include site
-- Notes a list of socket.io-webservice for the connect of its device. A list that the original left without an expiry
-- (its device was connected) gets that of a device that has gone now.
-- KEYS[1] prefix
-- ARGV    the list | its name behind '/<site>:socket.io:' | seconds that a device lives, 0 = for ever
local ttl = tonumber(ARGV[3])
call('ZADD', P .. 'originals', 0, ARGV[2])
if ttl > 0 then
  if call('TTL', ARGV[1]) == -1 then call('EXPIRE', ARGV[1], ttl) end
  call('EXPIRE', P .. 'originals', ttl)
end
return redis.status_reply('OK')
