-- The _resync of these devices has arrived: it need not be repeated at the next connect.
-- KEYS[1] prefix
-- ARGV    handle ...
for _, handle in ipairs(ARGV) do
  if call('EXISTS', P .. 'device:' .. handle) == 1 then call('HDEL', P .. 'device:' .. handle, 'lost') end
end
return redis.status_reply('OK')
