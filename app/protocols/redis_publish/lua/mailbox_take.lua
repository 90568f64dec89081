-- include mailbox
-- A client has the part before: it is taken out, and the next part answered.
-- KEYS[1] the user's waiting messages
-- ARGV    node | connection number | most messages | most bytes | prefix of nodes' channels, '' in a Cluster
--         | user id | the prefix also in a Cluster, '' = nobody waits for acks | entry ...
-- Answers what part_for does, or nothing when the connection is not registered any more.
local field = ARGV[1] .. '.' .. ARGV[2]
confirm(8, ARGV[6], ARGV[7], field)
if call('HEXISTS', connections, field) == 0 then return {} end
return part_for(field, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
