-- include clock
-- How long the quietest of some nodes has not beaten. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:nodes
-- ARGV    node ...
-- Answers ms. A node that is not known has been buried: it does not count as silent.
local now = clock('')
local since = now
for _, node in ipairs(ARGV) do since = math.min(since, tonumber(redis.call('ZSCORE', KEYS[1], node) or now)) end
return now - since
