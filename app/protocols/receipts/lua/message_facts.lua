-- include seqs
-- Describes messages that wait in some queue. Changes nothing.
-- KEYS[1] prefix
-- ARGV    seq ...
-- Answers, until the answer is long enough, for each { seq } when no message waits under it, or
--         { seq, id, event, size, devices that have it, at (ms), rooms as JSON, options as JSON }
local MOST_BYTES = 500000
local visible, bytes = tonumber(last_seq()), 0
local answer = {}
for _, seq in ipairs(ARGV) do
  local held = tonumber(seq) <= visible and
    call('HMGET', P .. 'body:' .. seq, 'id', 'event', 'size', 'refs', 'at', 'rooms', 'opt') or {}
  if held[2] then
    answer[#answer + 1] = { seq, held[1] or '', held[2], held[3], held[4], held[5] or '0', held[6] or '[]', held[7] or '' }
    bytes = bytes + #held[2] + #(held[6] or '')
  else
    answer[#answer + 1] = { seq }
  end
  if bytes > MOST_BYTES then return answer end
end
return answer
