-- One connection of some devices is gone.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device ttl in ms, 0 = for ever | handle ...
-- Answers per handle 1, or 0 when this connection was not registered (any more).
local now = clock(ARGV[1])
local node = ARGV[2]
local answer = {}
for i = 5, #ARGV do
  local handle = ARGV[i]
  answer[#answer + 1] = remove_connection(handle, 'c:' .. node .. '.' .. ARGV[3], now, tonumber(ARGV[4]))
  if not string.find(',' .. state_of(handle) .. ',', ',' .. node .. ',', 1, true) then
    call('SREM', P .. 'node:' .. node, handle)
  end
end
return answer
