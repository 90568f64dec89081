-- include seqs
-- include bodies
-- include uncount
-- include fates
-- Applies acks in the order in which they arrived.
-- KEYS[1] prefix
-- ARGV    now | node | groups: kind ('one' or 'batch') | seq | written in ms, 0 = unknown | acked in ms | how many devices
--         | the places of these, in order, in what the node was told of the message, as bits (see _flights.lua), '' = unknown
--         | handles, joined by ','
--         (the times are those of the node)
-- Answers the handles whose ack calls for a _resync: the message was sent with resync=true, and an older message of its
-- event still waits. Messages of a batch are acknowledged as a whole prefix, so there the rule cannot be broken.
local bodies, freed, calls, lines = {}, {}, {}, {}
local counting = call('HLEN', P .. 'bytes') > 0

local function body_of(seq)
  local body = bodies[seq]
  if body == nil then
    local key = P .. 'body:' .. seq
    local got = call('HMGET', key, 'event', 'resync', 'size', 'id', 'opt', 'refs')
    body = got[1] and { event = got[1], resync = got[2] == '1', size = tonumber(got[3]), id = got[4] } or false
    if body then body.refs = tonumber(got[6]) end
    if got[5] then
      body.options = cjson.decode(got[5])
      body.waiter, body.late = unpack(call('HMGET', key, 'waiter', 'late'))
    end
    bodies[seq] = body
  end
  return body
end

-- One command to Redis for each device, and another one while any device rests: see _flights.lua.
local queue, are_resting, roused = P .. 'queue:', call('EXISTS', P .. 'resting') == 1, {}
local function remove(handle, seq, size)
  if call('LREM', queue .. handle, 1, seq) == 0 then return false end
  freed[seq] = (freed[seq] or 0) + 1
  if counting then uncount_bytes(handle, size) end
  if are_resting and call('EXISTS', queue .. handle) == 0 then roused[#roused + 1] = handle end
  return true
end

-- Whether an older message of the same event waits before this one. False also when this one does not wait.
local function is_out_of_turn(handle, seq, event)
  local key = P .. 'queue:' .. handle
  if call('LINDEX', key, 0) == seq then return false end
  local older = false
  for _, other in ipairs(call('LRANGE', key, 0, -1)) do
    if other == seq then return older end
    local body = body_of(other)
    if body and body.event == event then older = true end
  end
  return false
end

local function drop_event(handle, event, seq)
-- include lost here
  local visible = tonumber(last_seq())
  local dropped = {}
  for _, other in ipairs(call('LRANGE', P .. 'queue:' .. handle, 0, -1)) do
    local body = body_of(other)
    local is_accepted = tonumber(other) <= visible
    if body and body.event == event and is_accepted and remove(handle, other, body.size) then
      dropped[#dropped + 1] = other
      if body.options and body.options.collapse then call('HDEL', P .. 'collapse:' .. handle, body.options.collapse) end
    end
  end
  -- if journal
  write_left('resynced', 'ack out of turn', dropped, { handle })
  -- end if
  note_loss(handle, 'ack out of turn')
  local key = P .. 'device:' .. handle
  local lost = call('HGET', key, 'lost')
  if not lost or tonumber(lost) < tonumber(seq) then call('HSET', key, 'lost', seq) end
  calls[#calls + 1] = handle
end

-- include ack_options
local apply_options, tell_waiting

-- Applies acks of one message by devices that have it in their list. Answers the handles of those that had it.
local function apply(kind, seq, written, acked, handles)
  local body, taken = body_of(seq), {}
  if not body then return taken end
  local has_turn = body.resync and kind == 'one'
  local ms = tonumber(written) > 0 and math.max(0, acked - written) or nil
  for _, handle in ipairs(handles) do
    local is_out = has_turn and is_out_of_turn(handle, seq, body.event)
    if is_out then
      drop_event(handle, body.event, seq)
    elseif remove(handle, seq, body.size) then
      taken[#taken + 1] = handle
      if body.options then
        if not apply_options then apply_options, tell_waiting = load_ack_options(bodies) end
        apply_options(seq, body, handle, ms)
      end
    end
  end
  return taken
end

local node, forms = ARGV[2], {}
-- Messages in flight that all have acknowledged, by an ack of their only device.
local ended = {}

local function read_flights()
  local seqs = {}
  for i = 4, #ARGV, 7 do seqs[#seqs + 1] = ARGV[i] end
  for k, form in ipairs(call('HMGET', P .. 'flights', unpack(seqs))) do forms[seqs[k]] = form end
end

-- The functions for a message in flight to several devices are made when one of these is acknowledged.
local ack_flight = nil
local function load_ack_flight()
-- include flown here
  return ack_several
end

-- Applies one group. Answers the handles, joined by ',', that had the message.
local function apply_group(i)
  local seq, handles = ARGV[i + 1], ARGV[i + 6]
  local form = forms[seq]
  if form then
    local begin = ARGV[i + 4] == '1' and node .. ' 1,' .. handles .. ',\n\n'
    if begin and string.sub(form, 1, #begin) == begin then
      ended[#ended + 1] = seq
      forms[seq] = false
      return handles
    end
    ack_flight = ack_flight or load_ack_flight()
    local flown, others, is_over = ack_flight(seq, form, tonumber(ARGV[i + 4]), ARGV[i + 5], handles)
    if is_over then forms[seq] = false end
    if #others == 0 then return flown end
    local taken = table.concat(apply(ARGV[i], seq, ARGV[i + 2], ARGV[i + 3], others), ',')
    return flown .. (flown ~= '' and taken ~= '' and ',' or '') .. taken
  end
  local list = {}
  for handle in string.gmatch(handles, '[^,]+') do list[#list + 1] = handle end
  return table.concat(apply(ARGV[i], seq, ARGV[i + 2], ARGV[i + 3], list), ',')
end

if #ARGV > 2 and call('EXISTS', P .. 'flights') == 1 then
  -- In a full Redis too: freeing begins with a write that needs no memory.
  call('UNLINK', P .. 'nothing')
  read_flights()
end
for i = 3, #ARGV, 7 do
  local handles = apply_group(i)
  -- if journal
  if handles ~= '' then
    lines[#lines + 1] = ARGV[i] .. ' ' .. ARGV[i + 1] .. ' ' .. ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. ' ' .. handles
  end
  -- end if
end
if #ended > 0 then
  call('HDEL', P .. 'flights', unpack(ended))
  if call('INCRBY', P .. 'flying', -#ended) <= 0 then call('DEL', P .. 'flying') end
end
for i = 1, #roused, 1000 do call('SREM', P .. 'resting', unpack(roused, i, math.min(i + 999, #roused))) end
if tell_waiting then tell_waiting() end
-- Most bodies are freed whole and have no options: what they need is done at once for all of them.
local keys, ids = {}, {}
local function forget_bodies()
  call('DEL', unpack(keys))
  if #ids > 0 then call('ZREM', P .. 'waiting', unpack(ids)) end
  keys, ids = {}, {}
end
for seq, count in pairs(freed) do
  local body = bodies[seq]
  if body.refs == count and not body.options then
    local key = P .. 'body:' .. seq
    uncount_stored(key)
    keys[#keys + 1] = key
    -- (An earlier version has kept no id.)
    if body.id then ids[#ids + 1] = body.id end
    if #keys == 256 then forget_bodies() end
  else
    release(seq, count, body)
  end
end
if #keys > 0 then forget_bodies() end
-- if journal
if #lines > 0 then write_fate('k', 'ack', 'a', table.concat(lines, '\n')) end
-- end if
return calls
