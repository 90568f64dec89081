-- include shared
-- Tells the nodes that hold a connection in one of the rooms (sites without queues: nothing is kept).
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see refusal_of() in _shared.lua) | site | message id | rooms as JSON | body
--         | guard, audiences (see _shared.lua) | room ...
-- Answers { seq, nodes told, 0, nodes told for the sake of an audience, times a node was told }, or what the terms or the
-- guard answer
local now = clock(ARGV[1])
local behind, refusal = check_guard(7)
-- Whom the guard refuses does not use up what the site may send.
refusal = refusal or refusal_of(ARGV[2], now)
if refusal then return refusal end
local seq = next_seq(now)
spend_guard(7, seq)
local told, seen = 0, {}
local audiences, first = read_audiences(behind)
for i = first, #ARGV do
  for _, node in ipairs(call('SMEMBERS', P .. 'members:' .. ARGV[i])) do
    if not seen[node] then
      seen[node] = true
      told = told + 1
      tell(node, 'rooms', ARGV[3], seq, ARGV[4], ARGV[5], '', ARGV[6])
    end
  end
end
local audience_nodes = tell_audiences(audiences, now, ARGV[3], seq, ARGV[4], ARGV[6])
return { seq, told, 0, audience_nodes, tells }
