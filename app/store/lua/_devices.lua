-- include bodies
-- include flights
-- The field of a device in the hash `devices`. The length in front keeps it unambiguous, whatever the names contain.
local function device_name(user, device)
  return #user .. ':' .. user .. ':' .. device
end

-- Writes the state of a device to the hashes that /send reads: 'node,node' while connected, '@deadline' while away.
local function set_state(handle, user, rooms, state)
  call('HSET', P .. 'user:' .. user, handle, state)
  for _, room in ipairs(rooms) do call('HSET', P .. 'room:' .. room, handle, state) end
end

-- The rooms of a device: its user's, or its own when its "user" is the public channel; and those of device_rooms.lua.
local function rooms_of(handle, user)
  local held = call('HMGET', P .. 'device:' .. handle, 'rooms', 'device_rooms')
  local packed = held[1] or call('HGET', P .. 'users', user)
  local rooms = packed and cjson.decode(packed) or {}
  for _, room in ipairs(held[2] and cjson.decode(held[2]) or {}) do rooms[#rooms + 1] = room end
  return rooms
end

-- Takes a device out of the rooms that it has beside those of its user; see device_rooms.lua.
local function drop_device_rooms(handle, packed)
  for _, room in ipairs(cjson.decode(packed)) do call('HDEL', P .. 'room:' .. room, handle) end
  call('HDEL', P .. 'device:' .. handle, 'device_rooms')
end

-- The state of a device by its connections, which are the fields 'c:<node>.<number>' of its hash.
local function state_of(handle)
  local nodes, seen = {}, {}
  for _, field in ipairs(call('HKEYS', P .. 'device:' .. handle)) do
    local node = string.match(field, '^c:([^.]+)%.')
    if node and not seen[node] then
      seen[node] = true
      nodes[#nodes + 1] = node
    end
  end
  table.sort(nodes)
  return table.concat(nodes, ',')
end

-- The user whose device connects in this run, with its rooms before when its last device was forgotten for that.
local coming = {}

-- Tells those who ask for it that a device has left, or with `rooms` that nothing is known of its user any more, which was
-- in these rooms. The functions within are made in few runs.
local function tell_left(handle, user, now, rooms)
-- include comings here
-- include tell here
  if rooms then
    note_forgetting(user, rooms)
    return
  end
  note_leaving(user, now)
  -- A request that waits for acks does not wait for a device that has left.
  for _, seq in ipairs(call('EXISTS', P .. 'waits') == 1 and call('LRANGE', P .. 'queue:' .. handle, 0, -1) or {}) do
    if call('ZSCORE', P .. 'waits', seq) then
      local held = call('HMGET', P .. 'body:' .. seq, 'waiter', 'id')
      tell(held[1], 'left', string.sub(P, 9, -3), seq, held[2], handle, '', '')
    end
  end
end

-- Forgets a device that is away: no key, field or member names it any more, nor its user if this was the last device.
-- `state` and `reason` are the fate of its messages. Answers in how many rooms it was.
local function remove_device(handle, state, reason)
  local key = P .. 'device:' .. handle
  local named = call('HMGET', key, 'user', 'device')
  local user, device = named[1], named[2]
  drop_queue(handle, nil, state, reason)
  call('ZREM', P .. 'expiry', handle)
  if not user then return 0 end
  local rooms = rooms_of(handle, user)
  for _, room in ipairs(rooms) do call('HDEL', P .. 'room:' .. room, handle) end
  call('HDEL', P .. 'user:' .. user, handle)
  call('HDEL', P .. 'devices', device_name(user, device))
  call('DEL', key)
  if call('EXISTS', P .. 'user:' .. user) == 1 then return #rooms end
  call('HDEL', P .. 'users', user)
  if coming.user == user then
    coming.rooms = rooms
  elseif call('EXISTS', P .. 'presence') == 1 then
    tell_left(handle, user, 0, rooms)
  end
  return #rooms
end

-- Rooms and entries of queues that one run works off, in some 15 ms, beside those of one device.
local WORK = 10000

-- Forgets devices in this order, until their queues have held as many entries, and they were in as many rooms, as one run
-- works off. `state` and `reason` are the fate of their messages. Answers how many were forgotten: at least one, if there is
-- one.
local function forget_devices(handles, state, reason)
  local work = 0
  for i, handle in ipairs(handles) do
    work = work + call('LLEN', P .. 'queue:' .. handle)
    if i > 1 and work > WORK then return i - 1 end
    work = work + remove_device(handle, state, reason)
  end
  return #handles
end

-- A device has left in a site with presence, where nobody is told: the rules are those of _online.lua.
local function leave_untold(user, now)
  if call('HEXISTS', P .. 'present', user) == 0 then return end
  if call('HLEN', P .. 'user:' .. user) > 1 then
    for _, state in ipairs(call('HVALS', P .. 'user:' .. user)) do
      if string.byte(state) ~= 64 then return end -- '@'
    end
  end
  local grace = tonumber(string.match(call('GET', P .. 'presence'), '^%d+'))
  if grace == 0 then
    call('HDEL', P .. 'present', user)
  else
    call('ZADD', P .. 'parting', 'NX', now + grace, user)
  end
end

-- Removes a connection of a device and sets the device's state in every room. With the last connection the device's
-- time to live begins at `now`. Messages up to the seq `written` may have been written to it: it is told if they are
-- withdrawn. Answers 1 when the connection was known, else 0, and the number of the rooms.
local function remove_connection(handle, node, number, now, ttl, written)
  local key = P .. 'device:' .. handle
  if call('HDEL', key, 'c:' .. node .. '.' .. number) == 0 then return 0, 0 end
  land_handle(handle)
  local held = call('HMGET', key, 'user', 'written')
  local user, state = held[1], state_of(handle)
  if written > tonumber(held[2] or 0) then call('HSET', key, 'written', string.format('%.0f', written)) end
  if not string.find(',' .. state .. ',', ',' .. node .. ',', 1, true) then call('SREM', P .. 'node:' .. node, handle) end
  if state == '' then
    local deadline = ttl == 0 and 0 or now + ttl
    state = '@' .. deadline
    if deadline > 0 then call('ZADD', P .. 'expiry', deadline, handle) end
    call('SREM', P .. 'resting', handle)
  end
  local rooms = rooms_of(handle, user)
  set_state(handle, user, rooms, state)
  if string.byte(state) ~= 64 then return 1, #rooms end -- '@'
  local told = call('EXISTS', P .. 'hook_events', P .. 'waits', P .. 'watched', P .. 'presence')
  if told == 1 and call('EXISTS', P .. 'presence') == 1 then
    leave_untold(user, now)
  elseif told > 0 then
    tell_left(handle, user, now)
  end
  return 1, #rooms
end
