-- include clock
-- include site
-- include frees
-- Revokes resume tickets: the tickets with one of the rooms or, without a room, all tickets of the site.
-- KEYS[1] prefix
-- ARGV    now | ms after which every ticket issued until now has expired | room in lower case ...
local now = clock(ARGV[1])
local key = P .. 'revoked'
-- The most rooms in the set: a larger set would be a burden for every connect. Past it, all tickets are revoked.
local MOST = 100000
for i = 3, #ARGV do call('ZADD', key, now, ARGV[i]) end
call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[2]))
if #ARGV == 2 or call('ZCARD', key) > MOST then
  call('HINCRBY', P .. 'tickets', 'generation', 1)
  call('UNLINK', key)
else
  call('PEXPIRE', key, ARGV[2])
end
return redis.status_reply('OK')
