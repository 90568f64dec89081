-- include site
-- Notes that the newest client of each device uses a WebSocket now. A device that is forgotten meanwhile stays so.
-- KEYS[1] prefix
-- ARGV    handle ...
for _, handle in ipairs(ARGV) do
  local key = P .. 'device:' .. handle
  if call('HGET', key, 'via') == 'polling' then call('HSET', key, 'via', 'websocket') end
end
