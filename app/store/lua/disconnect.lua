-- One connection of some devices is gone.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device ttl in ms, 0 = for ever | handle ...
-- Answers per handle 1, or 0 when this connection was not registered (any more).
local now = clock(ARGV[1])
local answer = {}
for i = 5, #ARGV do answer[#answer + 1] = remove_connection(ARGV[i], ARGV[2], ARGV[3], now, tonumber(ARGV[4])) end
return answer
