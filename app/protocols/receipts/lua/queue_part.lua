-- include clock
-- include seqs
-- Reads a part of one device's queue, oldest first. Changes nothing.
-- KEYS[1] prefix
-- ARGV    now | handle | after seq | at most so many
-- Answers { '1' when more follows, else '0', then for each { seq, id, event, size, at (ms), age in ms, options as JSON } }; '' is a
-- field that is not there.
local now, key, after, most = clock(ARGV[1]), P .. 'queue:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local MOST_BYTES = 500000
local visible = tonumber(last_seq())
-- The seqs of a queue grow: the first one behind `after` is found by halving.
local low, high = 0, call('LLEN', key)
while low < high do
  local middle = math.floor((low + high) / 2)
  if tonumber(call('LINDEX', key, middle)) > after then high = middle else low = middle + 1 end
end
local answer, bytes = { '0' }, 0
for i, seq in ipairs(call('LRANGE', key, low, low + most)) do
  if tonumber(seq) > visible then return answer end
  if i > most or bytes > MOST_BYTES then
    answer[1] = '1'
    return answer
  end
  local held = call('HMGET', P .. 'body:' .. seq, 'id', 'event', 'size', 'at', 'opt')
  bytes = bytes + #(held[2] or '') + #(held[5] or '')
  answer[#answer + 1] = { seq, held[1] or '', held[2] or '', held[3] or '0', held[4] or '0',
    held[4] and string.format('%.0f', now - tonumber(held[4])) or '0', held[5] or '' }
end
return answer
