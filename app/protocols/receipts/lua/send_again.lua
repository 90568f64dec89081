-- include clock
-- include terms
-- include large
-- include fates
-- include devices
-- include tell_devices
-- Stores a copy of an earlier message for one device, under a new seq and id, and hands it to the nodes that hold the device.
-- KEYS[1] prefix
-- ARGV    now | site | id of the copy | seq of the earlier message | its event | its body, '' = only where it still waits
--         | user | device | rooms of the copy as JSON | queue limit: messages | queue limit: bytes
--         | bytes of the largest message accepted | whether the journal keeps the body, '1' or '0' | terms (see _terms.lua)
-- Answers 'stored', or 'overflowed' when the queue ran over, and is dropped; 'unknown': there is no such device; 'waiting':
-- the device has the message in its queue; 'gone': nobody has the body any more; 'busy': a message is fanned out in parts;
-- or the answer of the terms.
local now = clock(ARGV[1])
if is_held_up(now) then return 'busy' end
local site, id, earlier, event, body = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local user, device = ARGV[7], ARGV[8]
local handle = call('HGET', P .. 'devices', device_name(user, device))
local state = handle and call('HGET', P .. 'user:' .. user, handle)
if not state then return 'unknown' end
-- Of a message in flight to other devices the body is in its flight.
if call('EXISTS', P .. 'flights') == 1 then land_flights() end
if call('LPOS', P .. 'queue:' .. handle, earlier) then return 'waiting' end
body = call('HGET', P .. 'body:' .. earlier, 'data') or body
if body == '' then return 'gone' end
local refusal = refusal_of(ARGV[14], now, #body)
if refusal then return refusal end
local has_quota = counts_stored
local seq, size = next_seq(now), #body
local max_count, max_bytes = tonumber(ARGV[10]), tonumber(ARGV[11])
local counted_from = math.floor(max_bytes / tonumber(ARGV[12]))
-- A copy has no options.
local options, replace = nil, nil

-- include append
local is_stored = append(handle, string.byte(state) ~= 64) -- '@'
note_rested()
if is_stored then
  call('HSET', P .. 'body:' .. seq, 'data', body, 'event', event, 'size', size, 'refs', 1, 'resync', '0',
    'at', string.format('%.0f', now), 'id', id, 'rooms', ARGV[9])
  call('ZADD', P .. 'waiting', seq, id)
  if has_quota then count_stored(seq, size) end
end
-- if journal
local keeps = ARGV[13] == '1' and { 'body', body } or {}
write_fate('k', 'send', 'seq', seq, 'id', id, 'at', string.format('%.0f', now), 'event', event, 'size', size,
  'rooms', ARGV[9], 'opt', '', 'to', is_stored and handle or '', 'over', is_stored and '' or handle, unpack(keeps))
-- end if
if string.byte(state) ~= 64 then -- '@'
  tell_devices({ [state] = is_stored and { { handle }, {} } or { {}, { handle } } }, site, seq, id, body)
end
return is_stored and 'stored' or 'overflowed'
