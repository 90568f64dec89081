-- include site
-- Users that come and go, for sites whose webhook names `user.online` or `user.offline`. `online` holds the users that
-- the backend was told of, `leaving` those of them without any device, by the time when it is to be told. So it is told
-- of no user twice in a row, whatever nodes and connections end in between. The public channel is no user: it never comes.
-- The functions are made when a site has a webhook, because every run of a script makes all its functions.
local presence = nil
local function load_presence()
-- include emit here
  if not (wants_event('user.online') or wants_event('user.offline')) then return false end

  local function count_connected(user)
    local states, count = call('HGETALL', P .. 'user:' .. user), 0
    for i = 2, #states, 2 do
      if string.byte(states[i]) ~= 64 then count = count + 1 end -- '@'
    end
    return count
  end

  local function tell_presence(type, at, user, devices)
    emit(type, at, user, '{"user":' .. cjson.encode(user) .. ',"devices":' .. devices .. '}')
  end

  -- Tells that a user is offline, since the end of its last connection. Its time in `leaving` has come.
  local function tell_offline(user, due)
    local left = tonumber(due) - tonumber(call('GET', P .. 'hook_grace') or 0)
    local came = tonumber(call('HGET', P .. 'online', user) or 0)
    call('ZREM', P .. 'leaving', user)
    call('HDEL', P .. 'online', user)
    tell_presence('user.offline', math.max(left, came), user, 0)
  end

  local function come(user, now)
    local due = call('ZSCORE', P .. 'leaving', user)
    if due and tonumber(due) <= now then tell_offline(user, due) end
    call('ZREM', P .. 'leaving', user)
    if call('HSETNX', P .. 'online', user, string.format('%.0f', now)) == 1 then
      tell_presence('user.online', now, user, count_connected(user))
    end
  end

  local function leave(user, now)
    if call('HEXISTS', P .. 'online', user) == 0 or count_connected(user) > 0 then return end
    if call('ZSCORE', P .. 'leaving', user) then return end
    call('ZADD', P .. 'leaving', now + tonumber(call('GET', P .. 'hook_grace') or 0), user)
  end

  return { come = come, leave = leave, tell_offline = tell_offline }
end

-- The functions above, or false for a site that tells of no users.
local function presence_of_site()
  if presence == nil then presence = call('EXISTS', P .. 'hook_events') == 1 and load_presence() end
  return presence
end

-- A device of the user has connected.
local function note_coming(user, now)
  local told = presence_of_site()
  if told then told.come(user, now) end
end

-- A device of the user has no connection any more, since `now`.
local function note_leaving(user, now)
  local told = presence_of_site()
  if told then told.leave(user, now) end
end
