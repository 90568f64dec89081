-- include clock
-- include terms
-- include guard
-- include tell
-- include large
-- include fates
-- include fly
-- include recipients
-- Stores one message for every addressed device and hands it to the nodes that hold them: all or nothing, in one run.
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see _terms.lua) | site | message id | event | body
--         | resync '1' or '0' | queue limit: messages | queue limit: bytes | bytes of the largest message accepted
--         | most devices in one run | rooms as JSON | options as JSON, '' = none (see _options.lua)
--         | idempotency (see _once.lua) | node that waits for acks and its ms, '' = none
--         | whether the journal keeps the body, '1' or '0' | device that does not get it (a field of `devices`, or '=' and its handle), '' = none
--         | most messages in flight that a queue may hold, 0 = the message does not fly (see _flights.lua)
--         | guard, audiences (see _guard.lua, _audiences.lua) | address ...   ('user:<room>' or 'room:<room in lower case>')
-- Answers { seq, devices that have it in their queue, devices whose queue ran over, nodes with an audience, times that
-- a node was handed the message, connected devices that have it (for the option `wait`) }, or the answer of the terms, of
-- the guard or of the idempotency; or { '', 0, 'watched' } when the site watches for too many acks; or { 'busy' } while
-- another message is fanned out in parts, or { 'large' } when this message is to be.
local now = clock(ARGV[1])
if is_held_up(now) then return { 'busy' } end
local remember = nil
if ARGV[14] ~= '' then
-- include once here
  local earlier = earlier_answer(ARGV[14])
  if earlier then return earlier end
  remember = remember_answer
end
local behind, refusal = check_guard(19)
-- The functions of options are made for a message with options only.
local options, replace, keep_options = nil, nil, nil
if ARGV[13] ~= '' then
-- include options here
  options = cjson.decode(ARGV[13])
  if not may_watch(options, now) then return { '', 0, 'watched' } end
  replace = options.collapse and replace_older
  keep_options = function(seq, handles)
    keep_recipients(seq, options, handles)
    keep_deadlines(seq, options, ARGV[4], ARGV[5], now, ARGV[15])
  end
end
-- A message that its guard refuses does not count as a send of the site.
refusal = refusal or refusal_of(ARGV[2], now, #ARGV[6])
if refusal then return refusal end
local has_quota = counts_stored
local site, id, event, body, resync = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local max_count, max_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local counted_from = math.floor(max_bytes / tonumber(ARGV[10]))
local size = #body

-- The handle of the device that does not get the message; '' for a device that is not known.
local function handle_left_out()
  return string.match(ARGV[17], '^=(.+)') or call('HGET', P .. 'devices', ARGV[17]) or ''
end

-- Stores the body. `refs` is how many queues hold it.
local function store_body(seq, refs)
  local key = P .. 'body:' .. seq
  call('HSET', key, 'data', body, 'event', event, 'size', size, 'refs', refs, 'resync', resync,
    'at', string.format('%.0f', now), 'id', id, 'rooms', ARGV[12])
  if options then call('HSET', key, 'opt', ARGV[13]) end
  if ARGV[15] ~= '' then call('HSET', key, 'waiter', string.match(ARGV[15], '^%S+')) end
  call('ZADD', P .. 'waiting', seq, id)
  if has_quota then count_stored(seq, size) end
end

-- More devices than one run takes: they get the message in parts. See the scripts fan_out_*. A message with a guard is
-- sent in one run, because its guard must hold at that moment.
local audiences, first, tell_listeners = nil, behind + 1, nil
if ARGV[behind] ~= '0' then
-- include audiences here
  audiences, first = read_audiences(behind)
  tell_listeners = tell_audiences
end
local lengths, devices = {}, 0
for i = first, #ARGV do
  lengths[i] = call('HLEN', P .. ARGV[i])
  devices = devices + lengths[i]
end
local is_large = devices > tonumber(ARGV[11]) and ARGV[19] == '0'
local most_flights = tonumber(ARGV[18])
local flies = may_fly(most_flights > 0 and not is_large, 1, devices, most_flights)
if is_large then
  local large_seq = begin_large(id, site, now)
  call('HSET', P .. 'large', 'once', ARGV[14], 'waiter', ARGV[15], 'keeps', ARGV[16])
  if ARGV[17] ~= '' then call('HSET', P .. 'large', 'but', handle_left_out()) end
  store_body(large_seq, 1)
  return { 'large' }
end

local seq = next_seq(now)
spend_guard(19, seq)

-- include append

-- A device in several rooms appears several times. Within one room it appears once, but HSCAN may repeat it.
local seen = #ARGV > first and {} or nil
if ARGV[17] ~= '' then
  seen = seen or {}
  seen[handle_left_out()] = true
end
local stored, overflowed, per_state, resting = 0, 0, {}, flies and resting_of_site()
-- The handles, where somebody asks for them.
local to, over = (options or JOURNAL_BACKLOG > 0) and {} or nil, {}

local function add(handle, state)
  if seen then
    if seen[handle] then return end
    seen[handle] = true
  end
  local list = per_state[state]
  if not list then
    if string.byte(state) ~= 64 then -- '@'
      list = { {}, {}, flies and not string.find(state, ',', 1, true) and {} }
      per_state[state] = list
    elseif has_expired(state, now) then
      return
    end
  end
  local flown = list and list[3]
  if flown and not resting[handle] then
    flown[#flown + 1] = handle
  elseif append(handle, list) then
    stored = stored + 1
    if to then to[stored] = handle end
    if list then list[1][#list[1] + 1] = handle end
  else
    overflowed = overflowed + 1
    over[overflowed] = handle
    if list then list[2][#list[2] + 1] = handle end
  end
end

local function add_all(states)
  -- Most devices have the state of the one before, and the message is in flight to them.
  local state, flown, count = nil, nil, 0
  for i = 1, #states, 2 do
    local handle = states[i]
    if states[i + 1] == state and not resting[handle] then
      count = count + 1
      flown[count] = handle
    else
      add(handle, states[i + 1])
      local list = not seen and per_state[states[i + 1]]
      flown = list and list[3]
      state = flown and states[i + 1]
      count = flown and #flown
    end
  end
end

-- A room of this size is read in parts, so that no single answer holds a whole large room.
local PART = 4096
for i = first, #ARGV do
  local key = P .. ARGV[i]
  if lengths[i] <= PART then
    add_all(call('HGETALL', key))
  else
    seen = seen or {}
    local cursor = '0'
    repeat
      local part = call('HSCAN', key, cursor, 'COUNT', PART)
      cursor = part[1]
      add_all(part[2])
    until cursor == '0'
  end
end

note_rested()
if stored > 0 then
  store_body(seq, stored)
  if keep_options then keep_options(seq, to) end
end
if flies then
  local lines, flying = {}, 0
  for state, list in pairs(per_state) do
    local flown = list[3]
    if flown and #flown > 0 then
      list.flown = table.concat(flown, ',')
      lines[#lines + 1] = state .. ' ' .. #flown .. ',' .. list.flown .. ',\n'
      flying = flying + #flown
      -- if journal
      for _, handle in ipairs(flown) do to[#to + 1] = handle end
      -- end if
    end
  end
  if flying > 0 then
    call('HSET', P .. 'flights', seq, form_of(lines, id, string.format('%.0f', now), event, ARGV[12], body))
    call('INCRBY', P .. 'flying', flying)
    stored = stored + flying
  end
end
if remember then remember(ARGV[14], id, stored, seq) end
-- if journal
local keeps = ARGV[16] == '1' and { 'body', body } or {}
write_fate('k', 'send', 'seq', seq, 'id', id, 'at', string.format('%.0f', now), 'event', event, 'size', size,
  'rooms', ARGV[12], 'opt', ARGV[13], 'to', table.concat(to, ',', 1, math.min(#to, 1000)),
  'over', table.concat(over, ',', 1, math.min(#over, 1000)), unpack(keeps))
write_more(seq, to, over, 1001)
-- end if
local connected = {}
if options and options.wait then
  for _, list in pairs(per_state) do
    for _, handle in ipairs(list[1]) do connected[#connected + 1] = handle end
  end
end

-- include tell_devices
tell_devices(per_state, site, seq, id, body)
local audience_nodes = audiences and tell_listeners(audiences, now, site, seq, id, body) or 0
return { seq, stored, overflowed, audience_nodes, tells, table.concat(connected, ',') }
