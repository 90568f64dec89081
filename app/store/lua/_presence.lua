-- include online
-- Users that come and go, for sites whose webhook names `user.online` or `user.offline`: `online` holds the users that
-- the backend was told of. The functions are made when a site has a webhook, because every run of a script makes all its
-- functions.
local presence = nil
local function load_presence()
-- include emit here
  if not (wants_event('user.online') or wants_event('user.offline')) then return false end

  local function tell_presence(type, at, user, devices)
    emit(type, at, user, '{"user":' .. cjson.encode(user) .. ',"devices":' .. devices .. '}')
  end

  return online_users('online', 'leaving', tonumber(call('GET', P .. 'hook_grace') or 0), function(user, at)
    tell_presence('user.online', at, user, connected_devices(user))
  end, function(user, at)
    tell_presence('user.offline', at, user, 0)
  end)
end

-- The functions above, or false for a site that tells of no users.
local function presence_of_site()
  if presence == nil then presence = call('EXISTS', P .. 'hook_events') == 1 and load_presence() end
  return presence
end
