-- include options
-- include emit
-- Tells the tenant's backend which users have not acknowledged a message in time. Once for each message.

local function reason_of(state, seq)
  if string.byte(state) == 64 then return 'away' end -- '@'
  return 'connected, not acknowledged'
end

local function unacknowledged(users, seq)
  local named = {}
  for _, user in ipairs(users) do
    local states, devices = call('HGETALL', P .. 'user:' .. user), {}
    for i = 1, #states, 2 do
      local device = call('HGET', P .. 'device:' .. states[i], 'device')
      devices[#devices + 1] = { device = device, reason = reason_of(states[i + 1], seq) }
    end
    named[#named + 1] = { user = user, devices = devices }
  end
  return named
end

-- Tells of one message whose time is over.
local function escalate(seq, at)
  local users = call('SMEMBERS', P .. 'pending:' .. seq)
  local watched = call('HGET', P .. 'watched', seq)
  stop_watching(seq)
  if #users == 0 or not watched then return end
  if call('EXISTS', P .. 'body:' .. seq) == 1 then call('HSET', P .. 'body:' .. seq, 'late', '1') end
  local data = cjson.decode(watched)
  data.users = unacknowledged(users, seq)
  emit('message.unacknowledged', at, '', cjson.encode(data))
end
