-- include site
-- Walks through the devices of a hash and finds those in a state. Changes nothing.
-- KEYS[1] prefix
-- ARGV    `devices` or `user:<user room>` | state | cursor of HSCAN | COUNT of HSCAN | how many are wanted
-- Answers { next cursor, handle ... }, once there are as many, or the work of one run is done, or the hash is at its end.
local name, wanted_state, cursor, wanted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
-- Devices that one run looks at, beside those of one step: a millisecond or two.
local LOOKED_AT = 1000
local is_of_all = name == 'devices'

local function user_of(field)
  local colon = string.find(field, ':', 1, true)
  return string.sub(field, colon + 1, colon + tonumber(string.sub(field, 1, colon - 1)))
end

-- The state in the hash of the user, '@deadline' while away.
local function is_away(field, value)
  local state = value
  if is_of_all then state = call('HGET', P .. 'user:' .. user_of(field), value) end
  return state and string.byte(state) == 64 -- '@'
end

local tests = {
  connected = function(_, field, value) return is_away(field, value) == false end,
  away = function(_, field, value) return is_away(field, value) end,
  waiting = function(handle) return call('LLEN', P .. 'queue:' .. handle) > 0 end,
  resync = function(handle) return call('HEXISTS', P .. 'device:' .. handle, 'lost') == 1 end,
}

local passes, looked_at, found = tests[wanted_state], 0, {}
repeat
  local step = call('HSCAN', P .. name, cursor, 'COUNT', ARGV[4])
  cursor = step[1]
  local fields = step[2]
  for i = 1, #fields, 2 do
    local handle = is_of_all and fields[i + 1] or fields[i]
    if passes(handle, fields[i], fields[i + 1]) then found[#found + 1] = handle end
  end
  looked_at = looked_at + #fields / 2
until cursor == '0' or looked_at >= LOOKED_AT or #found >= wanted
table.insert(found, 1, cursor)
return found
