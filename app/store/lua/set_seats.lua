-- include site
-- include frees
-- Sets the counts of a node, all of them, in one or more parts.
-- KEYS[1] prefix
-- ARGV    node | '1' for the first part: the earlier counts are deleted | counted name | count | ...
local node = ARGV[1]
local key = P .. 'seats:' .. node
if ARGV[2] == '1' then call('UNLINK', key) end
for i = 3, #ARGV, 2 do call('HSET', key, ARGV[i], ARGV[i + 1]) end
call(call('EXISTS', key) == 1 and 'SADD' or 'SREM', P .. 'seats', node)
return redis.status_reply('OK')
