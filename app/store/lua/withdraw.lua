-- include clock
-- include devices
-- include frees
-- Takes out a connection whose registration got no answer.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device ttl in ms, 0 = for ever | device id | user room ...
local now = clock(ARGV[1])
for i = 6, #ARGV do
  local handle = call('HGET', P .. 'devices', device_name(ARGV[i], ARGV[5]))
  if handle then remove_connection(handle, ARGV[2], ARGV[3], now, tonumber(ARGV[4]), 0) end
end
return redis.status_reply('OK')
