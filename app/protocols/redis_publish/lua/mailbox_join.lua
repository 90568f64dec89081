-- include mailbox
-- Registers a user's connection, and returns the first part of the waiting messages. A second run reads them again.
-- KEYS[1] the user's waiting messages
-- ARGV    user id | node | connection number | most connections | seconds that the list lives | most messages
--         | most bytes | prefix of nodes' channels | the same, '' in a Cluster
-- Answers the result of part_for.
local field = ARGV[2] .. '.' .. ARGV[3]
queue_told(ARGV[5])
local known = call('HGET', connections, field)
local order = known and string.match(known, '%d+') or call('HINCRBY', state, 'order', 1)
call('PERSIST', state)
call('HSET', connections, field, order .. 'f')
-- The user has more connections than allowed: drop the oldest.
while call('HLEN', connections) > tonumber(ARGV[4]) do
  local oldest = first_of(call('HGETALL', connections))
  local node, number = string.match(oldest, '^([^.]+)%.(.+)')
  call('HDEL', connections, oldest)
  call('PUBLISH', ARGV[8] .. node, table.concat({ 'drop', ARGV[1], number }, '\n'))
end
return part_for(field, tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[9])
