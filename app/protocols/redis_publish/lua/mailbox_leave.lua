-- include mailbox
-- A connection is gone, or all of a node's. With the last of the user, what no client is known to have waits again.
-- KEYS[1] the user's waiting messages
-- ARGV    node | connection number, '' = all of the node | seconds that the list lives
-- Answers how many connections were taken out.
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
