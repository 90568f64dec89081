-- include mode
-- include online
-- Users in rooms, for sites with `presence`. `present` and `parting` hold the users of the site, watched or not; a room that
-- somebody watches has its users in `inside:<room>` besides, and the nodes of its watchers are told of each change there.
-- The functions are made when a site has presence.

-- The time after a change in a room with too many users in which no further change is told: nodes ask for the number later.
local QUIET_MS = 1000
-- The rooms that one command looks up.
local ROOMS_PART = 200

local inside = nil
local function load_inside()
  local held = call('GET', P .. 'presence')
  if not held then return false end
  local grace, most = string.match(held, '^(%d+) (%d+)$')
  grace, most = tonumber(grace), tonumber(most)

  -- Tells the nodes that watch a room that a user is in it since a time, or with '0' that it has left. The version grows
  -- with each change, so that a node finds what it has missed. Of a room with more than `most` users only their number is
  -- told, and not each one.
  local function tell_watchers(room, user, since, count)
    local watch = P .. 'watch:' .. room
    local version = call('HINCRBY', watch, 'version', 1)
    if count > most and (since == '0' or count > most + 1) then
      if not call('SET', P .. 'watch_quiet:' .. room, 1, 'PX', QUIET_MS, 'NX') then return end
      user, since = '', '0'
    end
    local text = table.concat({ 'presence', string.sub(P, 9, -3), string.format('%.0f', version), count, since, #room,
      room .. user }, '\n')
    for _, field in ipairs(call('HKEYS', watch)) do
      local node = string.match(field, '^n:(.+)')
      if node and IS_SHARDED then
        call('SPUBLISH', P .. 'bus:' .. node, text)
      elseif node then
        call('PUBLISH', 'recado:bus:' .. node, text)
      end
    end
  end

  local function enter(room, user, since)
    local key = P .. 'inside:' .. room
    if call('HSETNX', key, user, since) == 1 then tell_watchers(room, user, since, call('HLEN', key)) end
  end

  local function go_out(room, user)
    local key = P .. 'inside:' .. room
    if call('HDEL', key, user) == 1 then tell_watchers(room, user, '0', call('HLEN', key)) end
  end

  -- Answers the watched ones among the rooms.
  local function watched_of(rooms)
    local found = {}
    if call('EXISTS', P .. 'watched') == 0 then return found end
    for first = 1, #rooms, ROOMS_PART do
      local last = math.min(first + ROOMS_PART - 1, #rooms)
      for i, is_watched in ipairs(call('SMISMEMBER', P .. 'watched', unpack(rooms, first, last))) do
        if is_watched == 1 then found[#found + 1] = rooms[first + i - 1] end
      end
    end
    return found
  end

  local function rooms_of_user(user)
    local packed = call('HGET', P .. 'users', user)
    return packed and cjson.decode(packed) or {}
  end

  -- The rooms of the user at hand, before and after what happens to it.
  local was, is = {}, {}
  local users = online_users('present', 'parting', grace, function(user, at)
    for _, room in ipairs(watched_of(is)) do enter(room, user, string.format('%.0f', at)) end
  end, function(user)
    for _, room in ipairs(watched_of(was)) do go_out(room, user) end
  end)

  -- A user has other rooms. Nothing happens to one that is not present; one whose grace is over has left the old ones.
  local function move(user, now, old, new)
    local due = call('ZSCORE', P .. 'parting', user)
    was = old
    if due and tonumber(due) <= now then users.finish(user, tonumber(due)) end
    local since = call('HGET', P .. 'present', user)
    if not since then return end
    local keeps = {}
    for _, room in ipairs(new) do keeps[room] = true end
    for _, room in ipairs(watched_of(old)) do
      if not keeps[room] then go_out(room, user) end
    end
    for _, room in ipairs(watched_of(new)) do enter(room, user, since) end
  end

  -- A device of the user has connected. `old` are its rooms before where they differ, else nil.
  local function come(user, now, rooms, old)
    was, is = old or rooms, rooms
    users.come(user, now)
    if old then move(user, now, old, rooms) end
  end

  -- The grace of the user is over. One that has come while the site had no presence only stays.
  local function finish(user, due)
    if connected_devices(user) > 0 then
      call('ZREM', P .. 'parting', user)
      return
    end
    was = rooms_of_user(user)
    users.finish(user, due)
  end

  -- A device of the user has no connection any more, since `now`.
  local function leave(user, now)
    users.leave(user, now)
    if grace == 0 then finish(user, now) end
  end

  -- Nothing is known of the user any more, which was in these rooms.
  local function forget(user, rooms)
    was = rooms
    users.finish(user, 0)
  end

  return { come = come, leave = leave, move = move, finish = finish, forget = forget, most = most }
end

-- The functions above, or false for a site without presence.
local function inside_of_site()
  if inside == nil then inside = load_inside() end
  return inside
end
