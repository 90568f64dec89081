-- Tells that a device has to fetch everything, before `lost` is set in its hash: once for a loss.
local tell_loss = nil
local function load_loss()
-- include clock here
-- include emit here
  return function(handle, reason)
    if not wants_event('device.resync') then return end
    local held = call('HMGET', P .. 'device:' .. handle, 'user', 'device', 'lost')
    if not held[1] or held[3] then return end
    local names = '{"user":' .. cjson.encode(held[1]) .. ',"device":' .. cjson.encode(held[2])
    emit('device.resync', clock(''), held[1], names .. ',"reason":"' .. reason .. '"}')
  end
end

local function note_loss(handle, reason)
  tell_loss = tell_loss or load_loss()
  tell_loss(handle, reason)
end
