-- The shared beginning of the scripts of Redis PUBLISH (mailbox_*). KEYS[1] is the list where a user's messages wait, a
-- key of the application. Every other key that a script keeps for the user begins with 'recado:{<that key>}:', so that
-- a Cluster has it on the same slot. The keys are listed in redis_keys.py.
local P = 'recado:{' .. KEYS[1] .. '}:'
local call = redis.call
local waiting = KEYS[1]
-- Messages told to the nodes of a connected user. Each stays here until a node reports that a client has it.
local told = P .. 'told'
-- '<node>.<number>' -> '<order>f' while the connection fetches waiting messages, '<order>l' when it hears them live.
local connections = P .. 'connections'
local state = P .. 'state'
-- The newest ids of entries from the stream.
local taken = P .. 'taken'
local STATE_SECONDS = 86400

-- Returns the user's first connection, or nil. With a prefix of nodes' channels, a connection of a node that died a
-- moment ago does not count while there is another: the `bubble` of one live connection must be true. (The prefix is ''
-- in a Cluster, whose servers know only their own subscribers.)
local function first_of(fields, channels)
  local is_heard = {}
  local function is_dead(field)
    if not channels or channels == '' then return false end
    local channel = channels .. string.match(field, '^[^.]+')
    if is_heard[channel] == nil then is_heard[channel] = call('PUBSUB', 'NUMSUB', channel)[2] > 0 end
    return not is_heard[channel]
  end
  local first, least
  for i = 1, #fields, 2 do
    local order = tonumber(string.match(fields[i + 1], '%d+'))
    if #fields > 2 and is_dead(fields[i]) then order = order + 2 ^ 52 end
    if not least or order < least then first, least = fields[i], order end
  end
  return first
end

-- Whether the application keeps a value of another type under the list's key.
local function is_no_list()
  local kind = call('TYPE', waiting).ok
  return kind ~= 'none' and kind ~= 'list'
end

-- Appends the told and unconfirmed messages to the waiting messages, which are older.
local function queue_told(expiry_seconds)
  local entries = call('LRANGE', told, 0, -1)
  if #entries == 0 then return end
  -- The messages stay in `told`, without an error, so that a connection can still leave or be buried.
  if is_no_list() then
    call('EXPIRE', told, expiry_seconds)
    return
  end
  for _, entry in ipairs(entries) do call('RPUSH', waiting, entry) end
  call('DEL', told)
  call('EXPIRE', waiting, expiry_seconds)
end

-- Returns the nodes of the connections that still fetch waiting messages, except for the connection `own`.
local function nodes_fetching(own)
  local fields, nodes, seen = call('HGETALL', connections), {}, {}
  for i = 1, #fields, 2 do
    local node = string.match(fields[i], '^[^.]+')
    if fields[i] ~= own and string.sub(fields[i + 1], -1) == 'f' and not seen[node] then
      seen[node] = true
      nodes[#nodes + 1] = node
    end
  end
  return nodes
end

-- Removes the entries from ARGV[from] on, which a client has. Equal entries are one entry: see the timestamps of
-- protocols/redis_publish/envelope.py. With a prefix of nodes' channels, the nodes whose connections wait for acks of
-- their parts are told.
local function confirm(from, uid, prefix, own)
  local nodes = prefix ~= '' and nodes_fetching(own) or {}
  for i = from, #ARGV do
    if call('LREM', told, 1, ARGV[i]) == 0 and call('LREM', waiting, 1, ARGV[i]) == 1 and #nodes > 0 then
      local message = table.concat({ 'done', uid, redis.sha1hex(ARGV[i]) }, '\n')
      for _, node in ipairs(nodes) do call('PUBLISH', prefix .. node, message) end
    end
  end
end

-- Returns the oldest waiting messages for one connection. When no more wait, it hears messages live from here on.
-- Answers { number of the last message told, 1 when it is the user's first connection, 1 when more wait, entry ... }
local function part_for(field, max_count, max_bytes, channels)
  local entries = call('LRANGE', waiting, 0, max_count)
  local bytes, count = 0, 0
  for i, entry in ipairs(entries) do
    bytes = bytes + #entry
    if i > 1 and (i > max_count or bytes > max_bytes) then break end
    count = i
  end
  local has_more = count < #entries
  local order = string.match(call('HGET', connections, field), '%d+')
  call('HSET', connections, field, order .. (has_more and 'f' or 'l'))
  local is_first = first_of(call('HGETALL', connections), channels) == field
  local answer = { tonumber(call('HGET', state, 'told') or '0'), is_first and 1 or 0, has_more and 1 or 0 }
  for i = 1, count do answer[#answer + 1] = entries[i] end
  return answer
end
