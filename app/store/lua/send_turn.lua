-- include clock
-- include fly
-- include seqs
-- include recipients
-- Stores several messages for users: those that a node has been asked to send in one turn of its loop. Each is stored as
-- by send.lua, all or nothing, in their order; the work that they share is done once. They have no options, audiences,
-- guard or idempotency, and their site has no limits.
-- KEYS[1] prefix
-- ARGV    now | deadline in ms of Redis's clock, '' = none | site | queue limit: messages | queue limit: bytes
--         | bytes of the largest message accepted | most devices in one run
--         | whether the journal keeps the bodies, '1' or '0'
--         | most messages in flight that a queue may hold, 0 = these do not fly (see _flights.lua)
--         | for each message: id | event | body | resync '1' or '0' | rooms as JSON | number of addresses | address ...
-- Answers for each message four words: seq | devices that have it in their queue, -1 = it has failed | devices whose queue
-- ran over | times that a node was handed it. Messages without words are to be sent by send.lua: another message is
-- fanned out in parts, or a user has very many devices.
local now = clock(ARGV[1])
if ARGV[2] ~= '' and now > tonumber(ARGV[2]) then return redis.error_reply('LATE the caller has stopped waiting') end
local site, max_count, max_bytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local counted_from = math.floor(max_bytes / tonumber(ARGV[6]))
if call('EXISTS', P .. 'large') == 1 then return {} end

-- The places of the messages in ARGV, and with their ids the words of one ZADD.
local places, room_left, i = {}, tonumber(ARGV[7]), 10
while i <= #ARGV do
  local last = i + 5 + tonumber(ARGV[i + 5])
  for j = i + 6, last do room_left = room_left - call('HLEN', P .. ARGV[j]) end
  if room_left < 0 then break end
  places[#places + 1] = i
  i = last + 1
end
if #places == 0 then return {} end
local most_flights = tonumber(ARGV[9])
local flies = may_fly(most_flights > 0, #places, tonumber(ARGV[7]) - math.max(room_left, 0), most_flights)
local resting, flights, flying = flies and resting_of_site(), {}, 0

local seq = call('INCRBY', P .. 'seq', #places)
if seq == #places then
  seq = tonumber(first_seq(now)) + #places - 1
  call('SET', P .. 'seq', string.format('%.0f', seq))
end
local first, size, options, replace = seq - #places, 0, nil, nil
-- Of messages that fly few wait in a list. The others are noted first: a message may drop the queue of one before it.
if not flies then
  local waiting = {}
  for k, place in ipairs(places) do
    waiting[2 * k - 1] = string.format('%.0f', first + k)
    waiting[2 * k] = ARGV[place]
  end
  call('ZADD', P .. 'waiting', unpack(waiting))
end

-- include append

local at = string.format('%.0f', now)
-- By node: the texts for it.
local per_node = {}

local function tell_later(per_state, id, body)
  -- A device that is connected to several nodes is in the list of each.
  local mine, tells = {}, 0
  for state, list in pairs(per_state) do
    for node in string.gmatch(state, '[^,]+') do
      local held = mine[node] or { {}, {} }
      mine[node] = held
      for side = 1, 2 do
        for _, handle in ipairs(list[side]) do held[side][#held[side] + 1] = handle end
      end
      held.flown = list.flown or held.flown
    end
  end
  for node, held in pairs(mine) do
    tells = tells + 1
    local texts = per_node[node] or {}
    per_node[node] = texts
    local handles = table.concat(held[1], ',')
    -- Devices with the message in flight are first: see _flights.lua.
    if held.flown then handles = handles == '' and held.flown or held.flown .. ',' .. handles end
    texts[#texts + 1] = table.concat({ '', seq, id, handles, table.concat(held[2], ','), body }, '\n')
  end
  return tells
end

-- Stores the message at this place of ARGV, whose seq is `seq`. Answers the last three of its words.
local function store(place)
  local id, event, body = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  size = #body
  local to, over, per_state = {}, {}, {}
  -- A device belongs to one user: none appears twice.
  for j = place + 6, place + 5 + tonumber(ARGV[place + 5]) do
    local states = call('HGETALL', P .. ARGV[j])
    for s = 1, #states, 2 do
      local handle, state = states[s], states[s + 1]
      local away, list = string.byte(state) == 64, per_state[state] -- '@'
      if not away and not list then
        list = { {}, {}, flies and not string.find(state, ',', 1, true) and {} }
        per_state[state] = list
      end
      local flown = list and list[3]
      if flown and not resting[handle] then
        flown[#flown + 1] = handle
      elseif not (away and has_expired(state, now)) then
        local is_stored = append(handle, list)
        local mine = is_stored and to or over
        mine[#mine + 1] = handle
        if list then table.insert(list[is_stored and 1 or 2], handle) end
      end
    end
  end
  if #to > 0 then
    call('HSET', P .. 'body:' .. seq, 'data', body, 'event', event, 'size', size, 'refs', #to, 'resync', ARGV[place + 3],
      'at', at, 'id', id, 'rooms', ARGV[place + 4])
    if flies then call('ZADD', P .. 'waiting', seq, id) end
  end
  local stored, lines = #to, {}
  for state, list in pairs(per_state) do
    local flown = list[3]
    if flown and #flown > 0 then
      list.flown = table.concat(flown, ',')
      lines[#lines + 1] = state .. ' ' .. #flown .. ',' .. list.flown .. ',\n'
      for _, handle in ipairs(flown) do to[#to + 1] = handle end
    end
  end
  -- if journal
  local keeps = ARGV[8] == '1' and { 'body', body } or {}
  write_fate('k', 'send', 'seq', seq, 'id', id, 'at', at, 'event', event, 'size', size, 'rooms', ARGV[place + 4], 'opt', '',
    'to', table.concat(to, ',', 1, math.min(#to, 1000)), 'over', table.concat(over, ',', 1, math.min(#over, 1000)),
    unpack(keeps))
  write_more(seq, to, over, 1001)
  -- end if
  if #lines > 0 then
    flying = flying + #to - stored
    flights[#flights + 1] = seq
    flights[#flights + 1] = form_of(lines, id, at, event, ARGV[place + 4], body)
  end
  return #to, #over, tell_later(per_state, id, body)
end

local nobody, answer = {}, {}
for k, place in ipairs(places) do
  seq = string.format('%.0f', first + k)
  -- A key of one user that holds something else must not cost the others their messages.
  local is_whole, stored, overflowed, tells = pcall(store, place)
  if not is_whole then stored, overflowed, tells = -1, 0, 0 end
  if stored <= 0 and not (flies and is_whole) then nobody[#nobody + 1] = ARGV[place] end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = seq, stored, overflowed, tells
end
if #nobody > 0 then call('ZREM', P .. 'waiting', unpack(nobody)) end
if #flights > 0 then
  call('HSET', P .. 'flights', unpack(flights))
  call('INCRBY', P .. 'flying', flying)
end
note_rested()

-- As `tell` in _tell.lua does for one message: the counter is for one site and node.
for node, texts in pairs(per_node) do
  local counter = call('HINCRBY', P .. 'bus', node, #texts) - #texts
  for k, text in ipairs(texts) do
    text = 'message\n' .. site .. '\n' .. counter + k .. text
    if IS_SHARDED then
      call('SPUBLISH', P .. 'bus:' .. node, text)
    else
      call('PUBLISH', 'recado:bus:' .. node, text)
    end
  end
end
return answer
