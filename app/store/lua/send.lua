-- include clock
-- include terms
-- include guard
-- include audiences
-- include large
-- include once
-- include accepted
-- include with_options
-- Stores one message for every addressed device and hands it to the nodes that hold them: all or nothing, in one run.
-- KEYS[1] prefix
-- ARGV    now | terms of this request (see _terms.lua) | site | message id | event | body
--         | resync '1' or '0' | queue limit: messages | queue limit: bytes | bytes of the largest message accepted
--         | most devices in one run | rooms as JSON | options as JSON, '' = none (see _options.lua)
--         | idempotency (see _once.lua) | node that waits for acks and its ms, '' = none
--         | whether the journal keeps the body, '1' or '0' | guard, audiences (see _guard.lua, _audiences.lua)
--         | address ...   ('user:<room>' or 'room:<room in lower case>')
-- Answers { seq, devices that have it in their queue, devices whose queue ran over, nodes with an audience, times that
-- a node was handed the message, connected devices that have it (for the option `wait`) }, or the answer of the terms, of
-- the guard or of the idempotency; or { '', 0, 'watched' } when the site watches for too many acks; or { 'busy' } while
-- another message is fanned out in parts, or { 'large' } when this message is to be.
local now = clock(ARGV[1])
if is_held_up(now) then return { 'busy' } end
local earlier = earlier_answer(ARGV[14])
if earlier then return earlier end
local behind, refusal = check_guard(17)
local options = ARGV[13] ~= '' and cjson.decode(ARGV[13]) or nil
local with = options and load_options()
if options and not with.may_watch(options, now) then return { '', 0, 'watched' } end
-- A message that its guard refuses does not count as a send of the site.
refusal = refusal or refusal_of(ARGV[2], now, #ARGV[6])
if refusal then return refusal end
local has_quota = counts_stored
local site, id, event, body, resync = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local max_count, max_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local counted_from = math.floor(max_bytes / tonumber(ARGV[10]))
local size = #body

-- More devices than one run takes: they get the message in parts. See the scripts fan_out_*. A message with a guard is
-- sent in one run, because its guard must hold at that moment.
local audiences, first = read_audiences(behind)
local lengths, devices = {}, 0
for i = first, #ARGV do
  lengths[i] = call('HLEN', P .. ARGV[i])
  devices = devices + lengths[i]
end
if devices > tonumber(ARGV[11]) and ARGV[17] == '0' then
  local large_seq = begin_large(id, site, now)
  call('HSET', P .. 'large', 'once', ARGV[14], 'waiter', ARGV[15], 'keeps', ARGV[16])
  store_body(large_seq, 1, now)
  if has_quota then count_stored(large_seq, size) end
  return { 'large' }
end

local seq = next_seq(now)
spend_guard(17, seq)

local replace_older = options and options.collapse and with.replace_older
-- include append

-- A device in several rooms appears several times. Within one room it appears once, but HSCAN may repeat it.
local seen = #ARGV > first and {} or nil
local stored, overflowed, per_state = 0, 0, {}
-- The handles, where somebody asks for them.
local to, over = (options or JOURNAL_BACKLOG > 0) and {} or nil, {}

local function add(handle, state)
  if seen then
    if seen[handle] then return end
    seen[handle] = true
  end
  local away = string.byte(state) == 64 -- '@'
  if away and has_expired(state, now) then return end
  local list = per_state[state]
  if not away and not list then
    list = { {}, {} }
    per_state[state] = list
  end
  if append(handle) then
    stored = stored + 1
    if to then to[stored] = handle end
    if list then list[1][#list[1] + 1] = handle end
  else
    overflowed = overflowed + 1
    over[overflowed] = handle
    if list then list[2][#list[2] + 1] = handle end
  end
end

local function add_all(pairs_)
  for i = 1, #pairs_, 2 do add(pairs_[i], pairs_[i + 1]) end
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

if stored > 0 then
  store_body(seq, stored, now)
  if has_quota then count_stored(seq, size) end
  if options then
    with.keep_recipients(seq, options, to)
    with.keep_deadlines(seq, options, id, event, now, ARGV[15])
  end
end
if JOURNAL_BACKLOG > 0 then write_send(seq, now, to, over) end
remember_answer(ARGV[14], id, stored)
local connected = {}
if options and options.wait then
  for _, list in pairs(per_state) do
    for _, handle in ipairs(list[1]) do connected[#connected + 1] = handle end
  end
end

-- include tell_devices
tell_devices(per_state, site, seq, id, body)
local audience_nodes = tell_audiences(audiences, now, site, seq, id, body)
return { seq, stored, overflowed, audience_nodes, tells, table.concat(connected, ',') }
