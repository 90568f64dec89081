-- The clients with streams of topics: one hash for each node that holds some, and the set of those nodes.
local function clients_key(node) return P .. 'topics:clients:' .. node end

-- A node's hash has changed: the set holds the node as long as the hash is there.
local function note_holder(node)
  call(call('EXISTS', clients_key(node)) == 1 and 'SADD' or 'SREM', P .. 'topics:clients', node)
end

-- How many streams of topics a client has on all nodes.
local function topic_instances(client)
  local sum = 0
  for _, node in ipairs(call('SMEMBERS', P .. 'topics:clients')) do
    sum = sum + tonumber(call('HGET', clients_key(node), client) or 0)
  end
  return sum
end
