-- include clock
-- include seqs
-- include terms
-- include guard
-- include audiences
-- include fates
-- Hands a message to the nodes with a connection in one of the rooms (sites without queues: no message is kept).
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see _terms.lua) | site | message id | rooms as JSON | body | event
--         | idempotency (see _once.lua) | whether the journal keeps the body, '1' or '0' | guard, audiences (see _guard.lua, _audiences.lua) | room ...
-- Answers { seq, nodes with connections, 0, nodes with an audience, times that a node was handed the message }, or the
-- answer of the terms, of the guard or of the idempotency.
local now = clock(ARGV[1])
local remember = nil
if ARGV[8] ~= '' then
-- include once here
  local earlier = earlier_answer(ARGV[8])
  if earlier then return earlier end
  remember = remember_answer
end
local behind, refusal = check_guard(10)
-- A message that its guard refuses does not count as a send of the site.
refusal = refusal or refusal_of(ARGV[2], now, 0)
if refusal then return refusal end
local seq = next_seq(now)
spend_guard(10, seq)
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
if remember then remember(ARGV[8], ARGV[4], told, seq) end
-- if journal
local keeps = ARGV[9] == '1' and { 'body', ARGV[6] } or {}
write_fate('k', 'plain', 'seq', seq, 'id', ARGV[4], 'at', string.format('%.0f', now), 'event', ARGV[7], 'size', #ARGV[6],
  'rooms', ARGV[5], 'nodes', told, unpack(keeps))
-- end if
return { seq, told, 0, audience_nodes, tells }
