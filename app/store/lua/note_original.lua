-- include site
-- Notes a list of socket.io-webservice for the connect of its device. A list that the original left without an expiry
-- (its device was connected) gets that of a device that has gone now.
-- KEYS[1] prefix
-- ARGV    the list | its name behind '/<site>:socket.io:' | seconds that a device lives, 0 = for ever
local ttl = tonumber(ARGV[3])
-- First of all: where this login may not read the list, it is not noted, and no connect stumbles over it.
local is_lasting = call('TTL', ARGV[1]) == -1
call('ZADD', P .. 'originals', 0, ARGV[2])
if ttl > 0 then
  if is_lasting then call('EXPIRE', ARGV[1], ttl) end
  call('EXPIRE', P .. 'originals', ttl)
end
return redis.status_reply('OK')
