-- include site
-- Users that come and go, with a grace: a user is online from its first connected device on, until it has had none for
-- the time of the grace. So no two comings and no two leavings of a user follow each other, whatever nodes and connections
-- end in between. The public channel is no user: it never comes.
local function connected_devices(user)
  local states, count = call('HGETALL', P .. 'user:' .. user), 0
  for i = 2, #states, 2 do
    if string.byte(states[i]) ~= 64 then count = count + 1 end -- '@'
  end
  return count
end

-- The rules above over the hash `online`, user → since when in ms, and the sorted set `leaving`, the users of it without
-- any device by the end of their grace. `came` and `left` are called with a user and the time of the change.
local function online_users(online, leaving, grace, came, left)
  online, leaving = P .. online, P .. leaving

  -- A user has left. Its time in `leaving` has come, or nothing is known of the user any more.
  local function finish(user, due)
    local since = tonumber(call('HGET', online, user) or 0)
    call('ZREM', leaving, user)
    if call('HDEL', online, user) == 1 then left(user, math.max(due - grace, since)) end
  end

  local function come(user, now)
    local due = call('ZSCORE', leaving, user)
    if due and tonumber(due) <= now then finish(user, tonumber(due)) end
    if due then call('ZREM', leaving, user) end
    if call('HSETNX', online, user, string.format('%.0f', now)) == 1 then came(user, now) end
  end

  local function leave(user, now)
    if call('HEXISTS', online, user) == 0 or connected_devices(user) > 0 then return end
    if call('ZSCORE', leaving, user) then return end
    call('ZADD', leaving, now + grace, user)
  end

  return { come = come, leave = leave, finish = finish }
end
