-- include shared
-- One connection of some devices is gone.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device ttl in ms, 0 = for ever | handle ...
-- Answers per handle 1; or 0 when another node has taken the connection out before, and told who wanted to know. A
-- connection that is not there for any other reason (an earlier try of this same command, whose answer was lost; a Redis
-- that has lost its data) nobody else has told of: 1.
local now = clock(ARGV[1])
local answer = {}
for i = 5, #ARGV do
  local was_here = remove_connection(ARGV[i], ARGV[2], ARGV[3], now, tonumber(ARGV[4])) == 1
  answer[#answer + 1] = (was_here or call('EXISTS', P .. 'buried:' .. ARGV[2]) == 0) and 1 or 0
end
return answer
