-- How many streams of topics a client has on all nodes.
local function topic_instances(client)
  local sum = 0
  for _, node in ipairs(call('ZRANGE', P .. 'topics:nodes', 0, -1)) do
    sum = sum + tonumber(call('HGET', P .. 'topics:clients:' .. node, client) or 0)
  end
  return sum
end
