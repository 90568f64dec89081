-- include mailbox
-- include frees
-- Removes one connection, or all connections of a node. After the user's last connection, messages that no client is
-- known to have wait again.
-- KEYS[1] the user's waiting messages
-- ARGV    node | connection number, '' = all of the node | seconds that the list lives
-- Answers the number of removed connections.
local taken = 0
for _, field in ipairs(call('HKEYS', connections)) do
  local node, number = string.match(field, '^([^.]+)%.(.+)')
  if node == ARGV[1] and (ARGV[2] == '' or ARGV[2] == number) then
    taken = taken + call('HDEL', connections, field)
  end
end
if call('HLEN', connections) == 0 then
  queue_told(ARGV[3])
  call('EXPIRE', state, STATE_SECONDS)
end
return taken
