-- include site
-- Finds the devices that have a message in their queue. Changes nothing.
-- KEYS[1] prefix
-- ARGV    seq | number of hashes | hash (behind the prefix) ... | handle ...
-- Answers { how many of the handles were looked at, then the handles of those that have it and stand in none of the hashes }
local seq, hashes = ARGV[1], tonumber(ARGV[2])
-- Entries of queues, and fields of hashes, that one run looks at beside those of one device: a millisecond.
local WORK = 20000
local answer, work = { 0 }, 0

local function is_listed(handle)
  for i = 3, hashes + 2 do
    if call('HEXISTS', P .. ARGV[i], handle) == 1 then return true end
  end
  return false
end

for i = hashes + 3, #ARGV do
  local key = P .. 'queue:' .. ARGV[i]
  work = work + call('LLEN', key) + 20 * hashes
  if answer[1] > 0 and work > WORK then return answer end
  answer[1] = answer[1] + 1
  if call('LPOS', key, seq) and not is_listed(ARGV[i]) then answer[#answer + 1] = ARGV[i] end
end
return answer
