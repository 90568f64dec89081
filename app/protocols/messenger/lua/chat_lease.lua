-- include site
-- The beat of a node for the relay of a site: takes or keeps the lease.
-- KEYS[1] prefix
-- ARGV    node | ms that the lease lasts, 0 gives it back
-- Answers 1 when the node has the lease, else 0.
local holder = call('GET', P .. 'chat_lease')
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  call('DEL', P .. 'chat_lease')
  return 0
end
call('SET', P .. 'chat_lease', ARGV[1], 'PX', ARGV[2])
return 1
