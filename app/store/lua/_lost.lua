-- Tells the backend that a device has to fetch everything, before `lost` is set in its hash: once for a loss.
local function note_loss(handle, reason)
  if call('EXISTS', P .. 'hook_events') == 0 then return end
-- include clock here
-- include emit here
  if not wants_event('device.resync') then return end
  local held = call('HMGET', P .. 'device:' .. handle, 'user', 'device', 'lost')
  if not held[1] or held[3] then return end
  local names = '{"user":' .. cjson.encode(held[1]) .. ',"device":' .. cjson.encode(held[2])
  emit('device.resync', clock(''), held[1], names .. ',"reason":"' .. reason .. '"}')
end
