-- include site
-- The clients with streams of topics: one hash for each node that holds streams, and the set of these nodes.
local function clients_key(node) return P .. 'topics:clients:' .. node end

-- A node's hash has changed: keep the node in the set while its hash exists.
local function note_holder(node)
  call(call('EXISTS', clients_key(node)) == 1 and 'SADD' or 'SREM', P .. 'topics:clients', node)
end

-- The number of a client's streams of topics on all nodes.
local function topic_instances(client)
  local sum = 0
  for _, node in ipairs(call('SMEMBERS', P .. 'topics:clients')) do
    sum = sum + tonumber(call('HGET', clients_key(node), client) or 0)
  end
  return sum
end
