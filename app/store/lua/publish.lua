-- include clock
-- include seqs
-- include terms
-- include guard
-- include audiences
-- Hands a message to the nodes with a connection in one of the rooms (sites without queues: no message is kept).
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see _terms.lua) | site | message id | rooms as JSON | body
--         | guard, audiences (see _guard.lua, _audiences.lua) | room ...
-- Answers { seq, nodes with connections, 0, nodes with an audience, times that a node was handed the message }, or the
-- answer of the terms or of the guard.
local now = clock(ARGV[1])
local behind, refusal = check_guard(7)
-- A message that its guard refuses does not count as a send of the site.
refusal = refusal or refusal_of(ARGV[2], now, 0)
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
