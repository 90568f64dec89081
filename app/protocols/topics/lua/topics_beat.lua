-- include shared
-- include topics
-- Records the beat of a node with topics, and buries a part of a dead node's clients.
-- KEYS[1] prefix
-- ARGV    node | ms without a beat after which a node counts as dead | limit of clients
-- Answers { 1 when this node was unknown, client, its streams on all nodes, ... }: the buried clients of the dead node
local now = clock('')
local nodes = P .. 'topics:nodes'
local answer = { call('ZADD', nodes, now, ARGV[1]) }
local dead = call('ZRANGEBYSCORE', nodes, '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, 1)[1]
if dead then
  local key = P .. 'topics:clients:' .. dead
  for _, client in ipairs(call('HRANDFIELD', key, ARGV[3])) do
    call('HDEL', key, client)
    answer[#answer + 1] = client
    answer[#answer + 1] = topic_instances(client)
  end
  if call('EXISTS', key) == 0 then call('ZREM', nodes, dead) end
end
return answer
