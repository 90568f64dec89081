-- include shared
-- A node says what it holds: all of it, in one or more parts.
-- KEYS[1] prefix
-- ARGV    node | '1' for the first part: what was known before is forgotten | what is counted | how many | ...
local node = ARGV[1]
local key = P .. 'seats:' .. node
if ARGV[2] == '1' then call('UNLINK', key) end
for i = 3, #ARGV, 2 do call('HSET', key, ARGV[i], ARGV[i + 1]) end
call(call('EXISTS', key) == 1 and 'SADD' or 'SREM', P .. 'seats', node)
return redis.status_reply('OK')
