-- include waiting
-- include flights
-- Reads messages that wait for the devices of one connection after a seq: the next part of a batch, or the messages
-- that a gap on the bus hid.
-- KEYS[1] prefix
-- ARGV    node | connection number | max count | max bytes | then for each device: handle | after seq
-- Answers { last seq, then for each device: { state, waiting(...) } }. The state is 'here'; or, while no _resync is
-- known to have arrived, the seq at which the queue was dropped; or 'gone' when the connection is not registered any
-- more (the node was taken for dead, the device expired); or 'lost' when Redis does not know the device.
local field = 'c:' .. ARGV[1] .. '.' .. ARGV[2]
local answer = { last_seq() }
-- Behind a gap all connections of a node ask: one run lands for all of them.
if call('EXISTS', P .. 'flights') == 1 then
  -- In a full Redis too: freeing begins with a write that needs no memory.
  call('UNLINK', P .. 'nothing')
  land_flights()
end
for i = 5, #ARGV, 2 do
  local handle = ARGV[i]
  local key = P .. 'device:' .. handle
  local state, part = 'lost', { '0' }
  if call('EXISTS', key) == 1 then
    part = waiting_or_lost(handle, tonumber(ARGV[i + 1]), tonumber(ARGV[3]), tonumber(ARGV[4]))
    state = call('HEXISTS', key, field) == 0 and 'gone' or call('HGET', key, 'lost') or 'here'
  end
  answer[#answer + 1] = { state, part }
end
return answer
