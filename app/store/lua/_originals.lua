-- include seqs
-- include lost
-- Takes over what socket.io-webservice has left waiting for a device: lists '/<site>:socket.io:<user room>:<device>:
-- <event>' of '<flake id>:<JSON of [event, arg, ...]>'. `originals` holds the names of such lists, see store/originals.py.

-- One run takes over so many messages, in at most 20 ms, of at most so many bytes in Redis. A device with more is lost.
local MOST_TAKEN = 2000
local MOST_TAKEN_BYTES = 2000000

-- The lists of a device among those that begin with its name: the device 'a' does not take the lists of the device 'a:b'.
-- An event's name in a list tells them apart, because every entry begins with it.
local function original_lists(begin)
  local lists, count, bytes = {}, 0, 0
  local site = string.match(P, '^recado:{(.*)}:$')
  for _, name in ipairs(call('ZRANGEBYLEX', P .. 'originals', '[' .. begin, '(' .. begin .. '\255', 'LIMIT', 0, 1000)) do
    local list = '/' .. site .. ':socket.io:' .. name
    local event = string.sub(name, #begin + 1)
    local kind = call('TYPE', list).ok
    local head = kind == 'list' and call('LINDEX', list, 0)
    if not head or string.find(event, '[%c"\\]') or string.find(head, ':["' .. event .. '"', 1, true) then
      lists[#lists + 1] = { name, list, event, kind == 'list' }
      if head then
        count = count + call('LLEN', list)
        bytes = bytes + call('MEMORY', 'USAGE', list, 'SAMPLES', 0)
      end
    end
  end
  return lists, count, bytes
end

-- Their entries, oldest first by flake id, which is compared as a number. The second answer tells that each was readable.
local function original_entries(lists)
  local entries, all_readable = {}, true
  for _, list in ipairs(lists) do
    for _, entry in ipairs(list[4] and call('LRANGE', list[2], 0, -1) or {}) do
      local id, body = string.match(entry, '^(%d+):(%[.*%])$')
      local is_json, value = pcall(cjson.decode, body or '')
      if is_json and type(value[1]) == 'string' then
        entries[#entries + 1] = { id, body, list[3] }
      else
        all_readable = false
      end
    end
  end
  table.sort(entries, function(one, other)
    if #one[1] ~= #other[1] then return #one[1] < #other[1] end
    return one[1] < other[1]
  end)
  return entries, all_readable
end

-- Appends them to the device's queue. One command to Redis for each, beside a few for all.
local function keep_originals(handle, entries, now)
  local key, part, bytes = P .. 'queue:' .. handle, {}, 0
  local seq = tonumber(next_seq(now))
  call('INCRBY', P .. 'seq', #entries - 1)
  local at = string.format('%.0f', now)
  for i, entry in ipairs(entries) do
    local number = string.format('%.0f', seq + i - 1)
    part[#part + 1] = number
    bytes = bytes + #entry[2]
    call('HSET', P .. 'body:' .. number, 'data', entry[2], 'event', entry[3], 'size', #entry[2], 'refs', 1,
      'resync', '0', 'at', at)
    if #part == 200 or i == #entries then
      call('RPUSH', key, unpack(part))
      part = {}
    end
  end
  if call('HEXISTS', P .. 'bytes', handle) == 1 then call('HINCRBY', P .. 'bytes', handle, bytes) end
end

-- Moves the device's lists into its queue, once. Lists that one run does not take, and lists that come while a message is
-- stored in parts (its seq is not visible yet), are dropped: the device is lost, and gets a _resync.
local function take_originals(handle, user, device, now)
  if call('EXISTS', P .. 'originals') == 0 then return end
  local lists, count, bytes = original_lists(user .. ':' .. device .. ':')
  if #lists == 0 then return end
  -- In a full Redis too: freeing begins with a write that needs no memory.
  call('UNLINK', P .. 'nothing')
  local is_whole = count <= MOST_TAKEN and bytes <= MOST_TAKEN_BYTES and call('EXISTS', P .. 'large') == 0
  if is_whole then
    local entries, all_readable = original_entries(lists)
    if #entries > 0 then keep_originals(handle, entries, now) end
    is_whole = all_readable
  end
  for _, list in ipairs(lists) do
    if list[4] then call('UNLINK', list[2]) end
    call('ZREM', P .. 'originals', list[1])
  end
  if not is_whole then
    note_loss(handle, 'queue full')
    call('HSET', P .. 'device:' .. handle, 'lost', last_seq())
  end
end
