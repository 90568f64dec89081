-- include site
-- include frees
-- Takes one connection out of the counts.
-- KEYS[1] prefix
-- ARGV    node | name under which the connection was counted ...
local node = ARGV[1]
local key = P .. 'seats:' .. node
for i = 2, #ARGV do
  if call('HINCRBY', key, ARGV[i], -1) <= 0 then call('HDEL', key, ARGV[i]) end
end
if call('EXISTS', key) == 0 then call('SREM', P .. 'seats', node) end
return redis.status_reply('OK')
