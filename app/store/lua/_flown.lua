-- include flights
-- Acks of a message in flight to several devices.

-- Adds bits to those of a line with so many devices. Answers nil where one was there before, or stands for no device.
local function add_bits(old, new, count)
  local parts = {}
  for first = 1, #new, 64 do
    local mine, other = { string.byte(new, first, first + 63) }, { string.byte(old, first, first + 63) }
    for k, byte in ipairs(mine) do
      local before = other[k] or 0
      if before > 0 and bit.band(byte, before) > 0 then return nil end
      mine[k] = byte + before
    end
    parts[#parts + 1] = string.char(unpack(mine))
  end
  local beyond = #new * 8 - count
  if beyond >= 8 or beyond > 0 and string.byte(new, #new) >= 2 ^ (8 - beyond) then return nil end
  return table.concat(parts) .. string.sub(old, #new + 1)
end

-- The same for handles whose places are not known, or that may have no place. Answers the bits, how many have come, the
-- handles of those, and the other handles.
local function add_handles(line, bits, handles)
  local places, bytes, place, mine, others = {}, { string.byte(bits, 1, -1) }, 0, {}, {}
  for handle in string.gmatch(line.text, '[^,]+') do
    places[handle] = place
    place = place + 1
  end
  for k = #bytes + 1, math.ceil(place / 8) do bytes[k] = 0 end
  for handle in string.gmatch(handles, '[^,]+') do
    place = places[handle]
    local k = place and math.floor(place / 8) + 1
    if place and math.floor(bytes[k] / 2 ^ (place % 8)) % 2 == 0 then
      bytes[k] = bytes[k] + 2 ^ (place % 8)
      mine[#mine + 1] = handle
    else
      others[#others + 1] = handle
    end
  end
  for k, byte in ipairs(bytes) do bytes[k] = string.char(byte) end
  return table.concat(bytes), #mine, table.concat(mine, ','), others
end

-- Applies one group. Answers the handles, joined by ',', to which the message was in flight, a list of the others, and
-- whether the flight is over.
local function ack_several(seq, form, count, bits, handles)
  local lines, total = lines_of(form)
  local flown = {}
  table.sort(lines, function(one, other) return one.node == node and other.node ~= node end)
  for _, line in ipairs(lines) do
    local done, old = done_of(seq, line.node)
    local added, others, mine = bits ~= '' and line.node == node and add_bits(old, bits, line.count), {}, handles
    if not added then added, count, mine, others = add_handles(line, old, handles) end
    if count > 0 then
      flown[#flown + 1] = mine
      if note_done(seq, lines, total, line.node, done + count, added) then return table.concat(flown, ','), others, true end
    end
    handles = table.concat(others, ',')
    if handles == '' then break end
  end
  local left = {}
  for handle in string.gmatch(handles, '[^,]+') do left[#left + 1] = handle end
  return table.concat(flown, ','), left, false
end
