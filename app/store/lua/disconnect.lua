-- include clock
-- include devices
-- Takes out one connection of some devices.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device ttl in ms, 0 = for ever | then for each device: handle | highest seq that
--         was written to it
-- Answers for each handle 1 when its end is the caller's to report, or 0 when another node has taken the connection out
-- and reported it. A connection that is missing for another reason (an earlier attempt of this command, whose answer
-- was lost; a Redis that has lost its data) was reported by no other node: 1.
local now = clock(ARGV[1])
local answer = {}
for i = 5, #ARGV, 2 do
  local was_here = remove_connection(ARGV[i], ARGV[2], ARGV[3], now, tonumber(ARGV[4]), tonumber(ARGV[i + 1])) == 1
  answer[#answer + 1] = (was_here or call('EXISTS', P .. 'buried:' .. ARGV[2]) == 0) and 1 or 0
end
return answer
