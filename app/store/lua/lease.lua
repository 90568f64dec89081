-- Renews a node's lease on a worker id. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:worker:<datacenter>:<worker>
-- ARGV    node | ms that the lease lasts
-- Answers 1, or 0 when the lease had run out and another node has taken it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
-- This write needs no memory. After it a full Redis lets the next one pass.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
