-- include bodies
-- Appends a message to queues. Included behind the locals `seq`, `size`, `max_count` and `max_bytes` of the message and
-- its site, of `options` and `replace` where the message replaces older ones, and of `counted_from`: a queue shorter
-- than this cannot hold more than max_bytes, so its bytes need no counting.

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

-- Connected devices with the message in their list: their next messages go there too, see _flights.lua.
local rested = {}
local function note_rested()
  for i = 1, #rested, 1000 do call('SADD', P .. 'resting', unpack(rested, i, math.min(i + 999, #rested))) end
end

-- Set by a script that may meet a device twice: whether the queue had the message already. It then takes the new entry out.
local is_repeated = nil

-- Appends the message to one queue. Past a bound the queue is dropped and its device is lost. Answers whether it is stored,
-- nil for a device that had it.
-- One command to Redis for each device: this is half of the cost of a fan-out, ack.lua is the other half.
local queue = P .. 'queue:'
local function append(handle, is_connected)
  if replace then replace(handle, options.collapse, seq) end
  local length = call('RPUSH', queue .. handle, seq)
  if is_repeated and length > 1 and is_repeated(handle) then return nil end
  if length <= max_count and not ((counting or length >= counted_from) and bytes_with(handle, length) > max_bytes) then
    if is_connected then rested[#rested + 1] = handle end
    return true
  end
-- include lost here
  drop_queue(handle, seq, 'resynced', 'queue full')
  note_loss(handle, 'queue full')
  call('HSET', P .. 'device:' .. handle, 'lost', seq)
  return false
end

-- Whether a device is away for longer than its time to live, by its state in the hash of a room.
local function has_expired(state, now)
  if string.byte(state) ~= 64 then return false end -- '@'
  local deadline = tonumber(string.sub(state, 2))
  return deadline > 0 and deadline <= now
end
