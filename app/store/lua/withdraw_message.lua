-- include options
-- include flights
-- include frees
-- Takes a message out of the queues of some devices, because its sender withdraws it.
-- KEYS[1] prefix
-- ARGV    message id | cursor of HSCAN, '0' at first | its COUNT
-- Answers { next cursor ('0': done), devices that had it }, or nothing when no such message waits. A message with options
-- knows its devices; of another one all devices of the site are looked at, part by part.
if ARGV[2] == '0' and call('EXISTS', P .. 'flights') == 1 then land_flights() end
local seq = call('ZSCORE', P .. 'waiting', ARGV[1])
if not seq then return ARGV[2] ~= '0' and { '0', 0 } end
local options = cjson.decode(call('HGET', P .. 'body:' .. seq, 'opt') or '{}')
stop_watching(seq)
if call('HGET', P .. 'large', 'seq') == seq then call('HSET', P .. 'large', 'withdrawn', 1) end
local cursor, handles = '0', {}
if call('EXISTS', P .. 'to:' .. seq) == 1 then
  handles = call('SPOP', P .. 'to:' .. seq, ARGV[3])
  if call('EXISTS', P .. 'to:' .. seq) == 1 then cursor = '1' end
else
  local part = call('HSCAN', P .. 'devices', ARGV[2], 'COUNT', ARGV[3])
  cursor = part[1]
  for i = 2, #part[2], 2 do handles[#handles + 1] = part[2][i] end
end
local taken = take_out(seq, handles, options, 'withdrawn', 'withdrawn')
tell_withdrawn(seq, ARGV[1], taken)
if call('EXISTS', P .. 'body:' .. seq) == 0 then cursor = '0' end
return { cursor, #taken }
