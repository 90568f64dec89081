-- include clock
-- include large
-- Stores a large message for a part of the devices in one of its rooms; see _large.lua.
-- KEYS[1] prefix
-- ARGV    now | message id | address | cursor of HSCAN | its COUNT | queue limit: messages | queue limit: bytes
--         | bytes of the largest message accepted
-- Answers the next cursor and, for the option `wait`, the connected devices of this part; or nothing when the message was
-- ended.
local now = clock(ARGV[1])
local seq = renew_large(ARGV[2], 'store', now)
if not seq then return false end
local held = call('HMGET', P .. 'body:' .. seq, 'size', 'opt')
local size = tonumber(held[1] or 0)
local options = held[2] and cjson.decode(held[2]) or nil
local replace, keep = nil, nil
if options then
-- include options here
  replace, keep = options.collapse and replace_older, keep_recipients
end
-- The device that does not get it, and how many have lost their queue with it.
local but, lost = unpack(call('HMGET', P .. 'large', 'but', 'overflowed'))
lost = tonumber(lost or 0)
local max_count, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local counted_from = math.floor(max_bytes / tonumber(ARGV[8]))

-- include append

-- A device may come again: in another room, or because HSCAN repeats it. No other message is sent meanwhile, so it has this
-- one last, or has lost its queue with it. A queue that was empty before costs no look.
is_repeated = function(handle)
  if call('LINDEX', queue .. handle, -2) ~= seq then return false end
  call('RPOP', queue .. handle)
  return true
end
local function was_seen(handle)
  if replace and call('LINDEX', queue .. handle, -1) == seq then return true end
  return lost > 0 and call('HGET', P .. 'device:' .. handle, 'lost') == seq
end

local part = call('HSCAN', P .. ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local handles, stored, overflowed, is_known = {}, 0, 0, {}
local to, connected = {}, {}
-- Nodes that were told nothing yet are known in `bus`, for the run that may have to tell them of a gap.
local function note_nodes(state)
  if is_known[state] then return end
  is_known[state] = true
  for node in string.gmatch(state, '[^,]+') do call('HSETNX', P .. 'bus', node, 0) end
end
for i = 1, #part[2], 2 do
  local handle = part[2][i]
  local is_stored, is_away = nil, string.byte(part[2][i + 1]) == 64 -- '@'
  if handle ~= but and not has_expired(part[2][i + 1], now) and not was_seen(handle) then
    is_stored = append(handle, not is_away)
  end
  if is_stored ~= nil then
    if is_stored then
      stored = stored + 1
      to[stored] = handle
      if not is_away then connected[#connected + 1] = handle end
    else
      overflowed = overflowed + 1
      lost = lost + 1
    end
    handles[#handles + 1] = handle
    if not is_away then note_nodes(part[2][i + 1]) end
  end
end
note_rested()
-- In parts, because Lua passes a bounded number of words.
for i = 1, #handles, 1000 do
  call('RPUSH', P .. 'large:handles', unpack(handles, i, math.min(i + 999, #handles)))
end
call('HINCRBY', P .. 'body:' .. seq, 'refs', stored)
call('HINCRBY', P .. 'large', 'stored', stored)
call('HINCRBY', P .. 'large', 'overflowed', overflowed)
if keep then keep(seq, options, to) end
return { part[1], options and options.wait and table.concat(connected, ',') or '' }
