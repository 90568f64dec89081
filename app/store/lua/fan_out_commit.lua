-- include clock
-- include audiences
-- include large
-- include options
-- include once
-- Accepts a large message: all its devices have it from here on. See _large.lua.
-- KEYS[1] prefix
-- ARGV    now | message id | audiences (see _audiences.lua)
-- Answers { seq, devices that have it in their queue, devices whose queue ran over, nodes with an audience, times that a
-- node was handed the message }, or nothing when the message was ended. The answer is kept for a minute: who has not got it
-- asks fan_out_abort.lua.
local now = clock(ARGV[1])
local seq = renew_large(ARGV[2], 'store', now)
if not seq then return false end
call('SET', P .. 'seq', seq)
local held = call('HMGET', P .. 'large', 'site', 'stored', 'overflowed', 'once', 'waiter', 'keeps')
local kept = call('HMGET', P .. 'body:' .. seq, 'data', 'event', 'size', 'rooms', 'opt')
local body, event = kept[1], kept[2]
if kept[5] then keep_deadlines(seq, cjson.decode(kept[5]), ARGV[2], event, now, held[5]) end
remember_answer(held[4], ARGV[2], held[2], seq)
-- if journal
do
  local keeps = held[6] == '1' and { 'body', body } or {}
  -- Its devices follow when their nodes are told.
  write_fate('k', 'send', 'seq', seq, 'id', ARGV[2], 'at', string.format('%.0f', now), 'event', event, 'size', kept[3],
    'rooms', kept[4], 'opt', kept[5] or '', 'to', '', 'over', '', unpack(keeps))
end
-- end if
local audiences = read_audiences(3)
call('HSET', P .. 'large', 'phase', 'tell')
local audience_nodes = tell_audiences(audiences, now, held[1], seq, ARGV[2], body)
local answer = { seq, tonumber(held[2]), tonumber(held[3]), audience_nodes, tells }
call('SET', P .. 'sent:' .. ARGV[2], cjson.encode(answer), 'PX', 60000)
return answer
