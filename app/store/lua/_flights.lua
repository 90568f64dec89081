-- include site
-- Messages in flight. A message to connected devices that keep up is written down once, not into each queue:
--   flights       hash: seq -> the message, in the form below
--   flights:done  hash: '<seq> <node>' -> '<count>,<bits>': the devices of this node that have it no longer in flight, by
--                 their place in the node's line, 8 to a byte, the lowest bit first
--   flying        string: the devices of all messages in `flights`
--   resting       set: connected devices with entries in their queue; their next messages go there too
-- The queue of a device is its list, and behind that the messages in flight to it. A device has only one of the two: a
-- message is appended to a list when nothing is in flight to the device, or after that has landed. To land is to write
-- messages in flight into the lists, oldest first. A script that reads or changes queues in another way than by an ack or
-- a message in flight lands what it touches first.
-- The form: a line '<node> <count>,<handle>,<handle>,' for each node, an empty line, a line
-- '<id> <ms> <bytes of event> <bytes of rooms>', then event, rooms as JSON and body without anything between.

-- A device may have all flights of its site. One run lands them in some 15 ms, and reads at most 1 MB of them.
local MOST_FLIGHTS = 256
local MOST_FLYING = 10000

-- Words of one command.
local FLIGHT_PART = 1000

-- The flights, oldest first: seq, form.
local function flights_in_order()
  local held, flights = call('HGETALL', P .. 'flights'), {}
  for i = 1, #held, 2 do flights[#flights + 1] = { held[i], held[i + 1], tonumber(held[i]) } end
  table.sort(flights, function(one, other) return one[3] < other[3] end)
  return flights
end

-- The lines of a flight: node, handles; and its devices in all.
local function lines_of(form)
  local lines, first, total = {}, 1, 0
  while string.byte(form, first) ~= 10 do
    local node, count, behind = string.match(form, '^([^ ]+) (%d+),()', first)
    local last = string.find(form, '\n', behind, true)
    lines[#lines + 1] = { node = node, count = tonumber(count), first = behind, text = string.sub(form, behind, last - 1) }
    total = total + count
    first = last + 1
  end
  return lines, total
end

-- How many devices of a line are done, and their bits.
local function done_of(seq, node)
  local held = call('HGET', P .. 'flights:done', seq .. ' ' .. node)
  if not held then return 0, '' end
  local count, bits = string.match(held, '^(%d+),(.*)$')
  return tonumber(count), bits
end

local function has_bit(bits, place)
  local byte = string.byte(bits, math.floor(place / 8) + 1) or 0
  return math.floor(byte / 2 ^ (place % 8)) % 2 == 1
end

-- Notes that so many devices of a line are done, and ends the flight when all are.
local function note_done(seq, lines, total, node, count, bits)
  local done, fields = count, {}
  for i, line in ipairs(lines) do
    if line.node ~= node then done = done + done_of(seq, line.node) end
    fields[i] = seq .. ' ' .. line.node
  end
  if done >= total then
    call('HDEL', P .. 'flights', seq)
    if #fields > 1 or count > 1 then call('HDEL', P .. 'flights:done', unpack(fields)) end
    if call('INCRBY', P .. 'flying', -total) <= 0 then call('DEL', P .. 'flying') end
    return true
  end
  call('HSET', P .. 'flights:done', seq .. ' ' .. node, count .. ',' .. bits)
  return false
end

-- Writes a message of a flight into the lists of these devices, which are connected.
local function rest(seq, form, handles)
  if #handles == 0 then return end
  local key = P .. 'body:' .. seq
  if call('HINCRBY', key, 'refs', #handles) == #handles then
    local head = string.find(form, '\n\n', 1, true) + 2
    local id, at, event_bytes, rooms_bytes, first = string.match(form, '^(%d+) (%d+) (%d+) (%d+)\n()', head)
    local rooms = first + tonumber(event_bytes)
    local body = rooms + tonumber(rooms_bytes)
    local data = string.sub(form, body)
    call('HSET', key, 'data', data, 'event', string.sub(form, first, rooms - 1), 'size', #data, 'resync', '0', 'at', at,
      'id', id, 'rooms', string.sub(form, rooms, body - 1))
    call('ZADD', P .. 'waiting', seq, id)
  end
  for _, handle in ipairs(handles) do call('RPUSH', P .. 'queue:' .. handle, seq) end
  for i = 1, #handles, FLIGHT_PART do
    call('SADD', P .. 'resting', unpack(handles, i, math.min(i + FLIGHT_PART - 1, #handles)))
  end
end

-- The handles of a line that are in flight yet, by their places; how many are done, and their bits.
local function in_flight(seq, line)
  local count, bits = done_of(seq, line.node)
  local handles, place = {}, 0
  for handle in string.gmatch(line.text, '[^,]+') do
    if count == 0 or not has_bit(bits, place) then handles[place] = handle end
    place = place + 1
  end
  return handles, count, bits
end

-- Lands a message for those of its devices that are in `due`, or for all. Takes it out for those, if it is not to be taken
-- out as a whole.
local function land(seq, form, lines, total, due)
  local landed = {}
  for _, line in ipairs(lines) do
    local handles, count, bits = in_flight(seq, line)
    local bytes, before = { string.byte(bits, 1, -1) }, #landed
    for place, handle in pairs(handles) do
      if not due or due[handle] then
        landed[#landed + 1] = handle
        local k = math.floor(place / 8) + 1
        for i = #bytes + 1, k do bytes[i] = 0 end
        bytes[k] = bytes[k] + 2 ^ (place % 8)
      end
    end
    if due and #landed > before then
      for k, byte in ipairs(bytes) do bytes[k] = string.char(byte) end
      note_done(seq, lines, total, line.node, count + #landed - before, table.concat(bytes))
    end
  end
  rest(seq, form, landed)
end

-- Lands the oldest flights: as many as `is_due` wants, called with a form and how many devices those before it had; all
-- without it. With them goes all that is in flight to the same devices, to keep the order. Answers how many flights.
local function land_flights(is_due)
  local flights, due, count, all = flights_in_order(), {}, 0, 0
  for i, flight in ipairs(flights) do
    if is_due and not is_due(flight[2], all) then break end
    local lines, total = lines_of(flight[2])
    flight[4], flight[5] = lines, total
    count, all = i, all + total
  end
  if count < #flights then
    for i = 1, count do
      for _, line in ipairs(flights[i][4]) do
        for _, handle in pairs((in_flight(flights[i][1], line))) do due[handle] = true end
      end
    end
    for _, flight in ipairs(count > 0 and flights or {}) do
      local lines, total = lines_of(flight[2])
      land(flight[1], flight[2], lines, total, due)
    end
    return count
  end
  for _, flight in ipairs(flights) do land(flight[1], flight[2], flight[4], flight[5], nil) end
  call('DEL', P .. 'flights', P .. 'flights:done', P .. 'flying')
  return count
end

-- Lands what is in flight to one device.
local function land_handle(handle)
  if call('EXISTS', P .. 'flights') == 0 then return end
  local word = ',' .. handle .. ','
  for _, flight in ipairs(flights_in_order()) do
    local seq, form = flight[1], flight[2]
    local found = string.find(form, word, 1, true)
    if found and found < string.find(form, '\n\n', 1, true) then
      local lines, total = lines_of(form)
      for _, line in ipairs(lines) do
        -- `found` is the comma in front of the handle.
        if found + 1 >= line.first and found + 1 < line.first + #line.text then
          local _, place = string.gsub(string.sub(form, line.first, found), ',', ',')
          local count, bits = done_of(seq, line.node)
          if not has_bit(bits, place) then
            rest(seq, form, { handle })
            local at = math.floor(place / 8)
            bits = bits .. string.rep('\0', at + 1 - #bits)
            local byte = string.byte(bits, at + 1) + 2 ^ (place % 8)
            bits = string.sub(bits, 1, at) .. string.char(byte) .. string.sub(bits, at + 2)
            note_done(seq, lines, total, line.node, count + 1, bits)
          end
        end
      end
    end
  end
end
