-- include site
-- Checks the guard of a message, the condition for its publication. It stands from ARGV[i] on: 0, or
-- 1 | hash | field | the value that the field must have | '1' when the field is deleted with the message.
-- A field whose secret was renewed keeps its first value, which tells it from an earlier field of the same name; the
-- value to compare with is then in renewed:<hash>.
-- Answers the index after the guard and, when it does not hold, the answer for the caller of the script. (Lua keeps one
-- copy of equal texts and compares their places: the comparison takes the same time whatever differs.)
local function check_guard(i)
  if ARGV[i] == '0' then return i + 1 end
  local held = call('HGET', P .. 'renewed:' .. ARGV[i + 1], ARGV[i + 2]) or call('HGET', P .. ARGV[i + 1], ARGV[i + 2])
  if held ~= ARGV[i + 3] then return i + 5, { held and 'differs' or 'missing' } end
  return i + 5
end

-- The message of this seq is accepted: deletes the field of its guard where the guard says so. For names that are kept
-- for a protocol (channels) the seq of the deletion is kept too, as far back as the protocol's history reaches.
local function spend_guard(i, seq)
  if ARGV[i] ~= '1' or ARGV[i + 4] ~= '1' then return end
  local first = call('HGET', P .. ARGV[i + 1], ARGV[i + 2])
  call('HDEL', P .. ARGV[i + 1], ARGV[i + 2])
  call('HDEL', P .. 'renewed:' .. ARGV[i + 1], ARGV[i + 2])
  if call('HDEL', P .. 'latest:' .. ARGV[i + 1], ARGV[i + 2]) == 0 then return end
  call('ZADD', P .. 'gone:' .. ARGV[i + 1], seq, first)
end
