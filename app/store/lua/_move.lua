-- include site
-- Words of one command; even, because a state is a handle and a text.
local MOVE_PART = 200

-- Moves devices from the rooms `old` to the rooms `new`. `states` holds a handle and a state for each device.
local function move_devices(states, old, new)
  local keep, had, handles = {}, {}, {}
  for _, room in ipairs(new) do keep[room] = true end
  for i = 1, #states, 2 do handles[#handles + 1] = states[i] end
  -- One command for the devices of up to MOVE_PART states, so that many devices in many rooms cost few commands.
  for _, room in ipairs(old) do
    had[room] = true
    if not keep[room] then
      local key = P .. 'room:' .. room
      for i = 1, #handles, MOVE_PART do call('HDEL', key, unpack(handles, i, math.min(i + MOVE_PART - 1, #handles))) end
    end
  end
  for _, room in ipairs(new) do
    if not had[room] then
      local key = P .. 'room:' .. room
      for i = 1, #states, MOVE_PART do call('HSET', key, unpack(states, i, math.min(i + MOVE_PART - 1, #states))) end
    end
  end
end
