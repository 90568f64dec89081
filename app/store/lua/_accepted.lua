-- include fates
-- include recipients
-- Included by send.lua, behind whose ARGV it looks: what Redis and the journal keep of a message that is accepted.

-- Stores the body. `refs` is how many queues hold it.
local function store_body(seq, refs, now)
  local key, id = P .. 'body:' .. seq, ARGV[4]
  call('HSET', key, 'data', ARGV[6], 'event', ARGV[5], 'size', #ARGV[6], 'refs', refs, 'resync', ARGV[7],
    'at', string.format('%.0f', now), 'id', id, 'rooms', ARGV[12])
  if ARGV[13] ~= '' then call('HSET', key, 'opt', ARGV[13]) end
  if ARGV[15] ~= '' then call('HSET', key, 'waiter', string.match(ARGV[15], '^%S+')) end
  call('HSET', P .. 'ids', id, seq)
end

-- Writes the message into the journal, with its devices.
local function write_send(seq, now, to, over)
  local part = math.min(#to, FATE_PART)
  local fields = { 'k', 'send', 'seq', seq, 'id', ARGV[4], 'at', string.format('%.0f', now), 'event', ARGV[5],
    'size', #ARGV[6], 'rooms', ARGV[12], 'opt', ARGV[13], 'to', table.concat(to, ',', 1, part),
    'over', table.concat(over, ',', 1, math.min(#over, FATE_PART)) }
  if ARGV[16] == '1' then
    fields[#fields + 1] = 'body'
    fields[#fields + 1] = ARGV[6]
  end
  write_fate(unpack(fields))
  if #to > FATE_PART or #over > FATE_PART then write_more(seq, to, over, FATE_PART + 1) end
end
