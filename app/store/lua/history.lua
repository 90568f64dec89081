-- What a protocol's history holds behind a seq. Changes nothing.
-- KEYS[1] prefix
-- ARGV    protocol | after seq | max messages | max bytes
-- Answers { last seq, '1' when nothing is missing behind the seq, '1' when there is more, then per message: seq, at, head,
--           id, body }
local protocol, after = ARGV[1], tonumber(ARGV[2])
local max_count, max_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local last = last_seq()
local marks = call('HMGET', P .. 'histories', protocol .. '.floor', protocol .. '.last')
local answer = { last, '0', '0' }
-- Without a history nothing is known to be missing only if nothing at all was published. One that has expired holds
-- nothing, which is all there is for who has heard its last message.
local is_gone = call('EXISTS', P .. 'history:' .. protocol) == 0
local known_from = is_gone and tonumber(marks[2] or last) or tonumber(marks[1])
if after >= known_from then answer[2] = '1' end
local count, bytes = 0, 0
for _, entry in ipairs(call('XRANGE', P .. 'history:' .. protocol, '(' .. ARGV[2] .. '-0', '+', 'COUNT', max_count + 1)) do
  local fields = entry[2]
  count = count + 1
  bytes = bytes + #fields[8]
  if count > 1 and (count > max_count or bytes > max_bytes) then
    answer[3] = '1'
    break
  end
  answer[#answer + 1] = string.match(entry[1], '^%d+')
  for i = 2, 8, 2 do answer[#answer + 1] = fields[i] end
end
return answer
