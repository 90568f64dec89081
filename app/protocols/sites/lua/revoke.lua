-- include shared
-- Makes resume tickets worthless: those with one of the rooms, or, without a room, all of the site.
-- KEYS[1] prefix
-- ARGV    now | ms after which no ticket of now can be used any more | room in lower case ...
local now = clock(ARGV[1])
local key = P .. 'revoked'
-- More than these would be a burden for every connect.
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
