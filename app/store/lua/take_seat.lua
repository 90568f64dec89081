-- include clock
-- include site
-- include frees
-- Counts a connection under all limits of its site, or, when one of them is reached, under none. Each node has a hash
-- of its own for its counts, so that they can be deleted or corrected all at once.
-- KEYS[1] prefix
-- ARGV    node | deadline of this request in ms of Redis's clock, '' = none | then for each limit: counted name | limit
-- Answers 0, or the number (1, 2, ...) of the limit that is reached.
local node = ARGV[1]
if ARGV[2] ~= '' and clock('') > tonumber(ARGV[2]) then
  return redis.error_reply('LATE the caller has stopped waiting')
end
local nodes = call('SMEMBERS', P .. 'seats')
for i = 3, #ARGV, 2 do
  local count = 0
  for _, other in ipairs(nodes) do count = count + (call('HGET', P .. 'seats:' .. other, ARGV[i]) or 0) end
  if count >= tonumber(ARGV[i + 1]) then return (i - 1) / 2 end
end
call('SADD', P .. 'seats', node)
for i = 3, #ARGV, 2 do call('HINCRBY', P .. 'seats:' .. node, ARGV[i], 1) end
return 0
