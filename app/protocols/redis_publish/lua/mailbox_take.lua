-- include mailbox
-- include frees
-- Removes the previous part, which a client has, and returns the next part.
-- KEYS[1] the user's waiting messages
-- ARGV    node | connection number | most messages | most bytes | prefix of nodes' channels, '' in a Cluster
--         | user id | the prefix also in a Cluster, '' = no connection waits for acks | entry ...
-- Answers the result of part_for, or an empty list when the connection is no longer registered.
local field = ARGV[1] .. '.' .. ARGV[2]
confirm(8, ARGV[6], ARGV[7], field)
if call('HEXISTS', connections, field) == 0 then return {} end
return part_for(field, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
