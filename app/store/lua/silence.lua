-- For how long the quietest of some nodes has not beaten. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:nodes
-- ARGV    node ...
-- Answers ms; a node that is not known has been buried, and is not silent.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local since = now
for _, node in ipairs(ARGV) do since = math.min(since, tonumber(redis.call('ZSCORE', KEYS[1], node) or now)) end
return now - since
