-- include history
-- Reads a protocol's history after a seq. Changes nothing.
-- KEYS[1] prefix
-- ARGV    protocol | after seq | max messages | max bytes
-- Answers { last seq, '1' when no message after the seq is missing, '1' when there are more, then for each message:
--           seq, at, head, id, body }
local protocol, after = ARGV[1], tonumber(ARGV[2])
local max_count, max_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local last = last_seq()
local answer = { last, after >= complete_from(protocol) and '1' or '0', '0' }
local count, bytes = 0, 0
local key = P .. 'history:' .. protocol
for _, entry in ipairs(call('XRANGE', key, '(' .. ARGV[2] .. '-0', '+', 'COUNT', max_count + 1)) do
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
