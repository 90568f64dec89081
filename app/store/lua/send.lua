-- include shared
-- Stores one message for every addressed device and hands it to the nodes that hold them: all or nothing, in one run.
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see refusal_of() in _shared.lua) | site | message id | event | body
--         | resync '1' or '0' | queue limit: messages | queue limit: bytes | bytes of the largest message accepted
--         | guard, audiences (see _shared.lua) | address ...   ('user:<room>' or 'room:<room in lower case>')
-- Answers { seq, devices that have it in their queue, devices whose queue ran over, nodes with an audience, times that
-- a node was handed the message }, or the answer of the terms or of the guard.
local now = clock(ARGV[1])
local behind, refusal = check_guard(11)
-- A message that its guard refuses does not count as a send of the site.
refusal = refusal or refusal_of(ARGV[2], now, #ARGV[6])
if refusal then return refusal end
local has_quota = counts_stored
local site, id, event, body, resync = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local max_count, max_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
-- A queue shorter than this cannot hold more than max_bytes, so its bytes need no counting.
local counted_from = math.floor(max_bytes / tonumber(ARGV[10]))
local size = #body
-- A room of this size is read in parts, so that no single answer holds a whole large room.
local PART = 4096

local seq = next_seq(now)
spend_guard(11, seq)

-- Bytes are counted exactly, but only for queues that are long enough to matter: `bytes` holds their sums.
local counting = call('HLEN', P .. 'bytes') > 0
local function bytes_with(handle, length)
  if length < counted_from then
    if counting then call('HDEL', P .. 'bytes', handle) end
    return 0
  end
  if counting and call('HEXISTS', P .. 'bytes', handle) == 1 then
    return call('HINCRBY', P .. 'bytes', handle, size)
  end
  local sum = size
  for _, other in ipairs(call('LRANGE', P .. 'queue:' .. handle, 0, -2)) do
    sum = sum + tonumber(call('HGET', P .. 'body:' .. other, 'size') or 0)
  end
  call('HSET', P .. 'bytes', handle, sum)
  counting = true
  return sum
end

-- A device in several rooms appears several times. Within one room it appears once, but HSCAN may repeat it.
local audiences, first = read_audiences(behind)
local seen = #ARGV > first and {} or nil
local queue = P .. 'queue:'
local stored, overflowed, per_state = 0, 0, {}

-- One command to Redis for each device: this is half of the cost of a fan-out, ack.lua is the other half.
local function add(handle, state)
  if seen then
    if seen[handle] then return end
    seen[handle] = true
  end
  local away = string.byte(state) == 64 -- '@'
  if away then
    local deadline = tonumber(string.sub(state, 2))
    if deadline > 0 and deadline <= now then return end
  end
  local list = per_state[state]
  if not away and not list then
    list = { {}, {} }
    per_state[state] = list
  end
  local length = call('RPUSH', queue .. handle, seq)
  if length > max_count or ((counting or length >= counted_from) and bytes_with(handle, length) > max_bytes) then
    drop_queue(handle, seq)
    call('HSET', P .. 'device:' .. handle, 'lost', seq)
    overflowed = overflowed + 1
    if list then list[2][#list[2] + 1] = handle end
  else
    stored = stored + 1
    if list then list[1][#list[1] + 1] = handle end
  end
end

local function add_all(pairs_)
  for i = 1, #pairs_, 2 do add(pairs_[i], pairs_[i + 1]) end
end

for i = first, #ARGV do
  local key = P .. ARGV[i]
  if call('HLEN', key) <= PART then
    add_all(call('HGETALL', key))
  else
    seen = seen or {}
    local cursor = '0'
    repeat
      local part = call('HSCAN', key, cursor, 'COUNT', PART)
      cursor = part[1]
      add_all(part[2])
    until cursor == '0'
  end
end

if stored > 0 then
  call('HSET', P .. 'body:' .. seq, 'data', body, 'event', event, 'size', size, 'refs', stored, 'resync', resync,
    'at', string.format('%.0f', now))
  if has_quota then count_stored(seq, size) end
end

-- A device that is connected to several nodes is in the list of each.
local per_node = {}
for state, list in pairs(per_state) do
  for node in string.gmatch(state, '[^,]+') do
    local mine = per_node[node]
    if not mine then
      per_node[node] = list
    else
      local merged = { {}, {} }
      for k = 1, 2 do
        for _, handle in ipairs(mine[k]) do merged[k][#merged[k] + 1] = handle end
        for _, handle in ipairs(list[k]) do merged[k][#merged[k] + 1] = handle end
      end
      per_node[node] = merged
    end
  end
end
for node, list in pairs(per_node) do
  tell(node, 'message', site, seq, id, table.concat(list[1], ','), table.concat(list[2], ','), body)
end
local audience_nodes = tell_audiences(audiences, now, site, seq, id, body)
return { seq, stored, overflowed, audience_nodes, tells }
