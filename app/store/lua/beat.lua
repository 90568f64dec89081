-- A node says that it lives, and hears which nodes have stopped saying so. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:nodes
-- ARGV    node | ms after which a node counts as dead
-- Answers { 1 when this node was not known, node, its last beat in ms, ... }; a `~` before a node: see keys.py
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local is_new = redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREM', KEYS[1], '~' .. ARGV[1])
local answer = { is_new }
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]), 'WITHSCORES')
for _, item in ipairs(dead) do answer[#answer + 1] = item end
return answer
