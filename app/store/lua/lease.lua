-- Renews a node's lease on a worker id. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:worker:<datacenter>:<worker>
-- ARGV    node | ms that the lease lasts
-- Answers 1, or 0 when the lease had run out and another node has taken it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
