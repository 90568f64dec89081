-- include clock
-- include seqs
-- Describes devices. Changes nothing.
-- KEYS[1] prefix
-- ARGV    now | handle ...
-- Answers, until the work of one run is done, for each { handle } when there is no such device, or
--         { handle, user, device, state, messages, bytes or -1, age of the oldest in ms or '', lost, written, seen,
--           rooms, transport, part of the client's description ... } with '' for a field that is not there
local now, visible = clock(ARGV[1]), tonumber(last_seq())
-- Sizes of messages that one run reads, beside those of one device: one or two milliseconds.
local WORK = 2000
-- Of a longer queue whose bytes are not counted the sum is not told.
local MOST_SUMMED = 10000
local CLIENT = { 'via', 'client0', 'client1', 'client2', 'client3', 'client4', 'client5', 'client6', 'client7', 'client8', 'client9' }
local work = 0

local function size_of(seq)
  return tonumber(call('HGET', P .. 'body:' .. seq, 'size') or 0)
end

local function bytes_of(handle, length, hidden)
  local counted = call('HGET', P .. 'bytes', handle)
  if counted then return tonumber(counted) - (hidden and size_of(hidden) or 0) end
  if length > MOST_SUMMED then return -1 end
  local sum = 0
  for _, seq in ipairs(length > 0 and call('LRANGE', P .. 'queue:' .. handle, 0, length - 1) or {}) do sum = sum + size_of(seq) end
  work = work + length
  return sum
end

-- The entry of a message that is not accepted yet is the last one, and does not count: see _large.lua.
local function queue_of(handle)
  local key = P .. 'queue:' .. handle
  local length, last = call('LLEN', key), call('LINDEX', key, -1)
  local hidden = last and tonumber(last) > visible and last or nil
  if hidden then length = length - 1 end
  local at = length > 0 and call('HGET', P .. 'body:' .. call('LINDEX', key, 0), 'at')
  return length, bytes_of(handle, length, hidden), at and string.format('%.0f', now - tonumber(at)) or ''
end

local answer = {}
for i = 2, #ARGV do
  local handle = ARGV[i]
  local held = call('HMGET', P .. 'device:' .. handle, 'user', 'device', 'lost', 'written', 'seen', 'rooms', unpack(CLIENT))
  local state = held[1] and call('HGET', P .. 'user:' .. held[1], handle)
  if state then
    local length, bytes, age = queue_of(handle)
    local facts = { handle, held[1], held[2], state, length, bytes, age }
    for field = 3, 6 + #CLIENT do facts[#facts + 1] = held[field] or '' end
    answer[#answer + 1] = facts
  else
    answer[#answer + 1] = { handle }
  end
  work = work + 10
  if work > WORK then return answer end
end
return answer
