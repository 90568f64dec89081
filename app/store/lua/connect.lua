-- include clock
-- include devices
-- include move
-- include waiting
-- include originals
-- include fates
-- Registers one connection for a device in each of its user rooms and answers the waiting messages.
-- KEYS[1] prefix
-- ARGV    now | node | connection number | device id | rooms as JSON (lower case, sorted) | max count | max bytes
--         | public channel, '' = none | deadline of this request, '' = none | note, '' = none
--         | most devices of a user, 0 = any | client, '' = not known
--         | number of the last change that the rooms hold, '' = nobody counts (see change_rooms.lua) | user room ...
-- Answers { 'stale' } when a later change was applied meanwhile; else { last seq, then per user room: { handle, lost ('1' or '0'), waiting(...), ids of withdrawn messages, each with a ',' } }
local now = clock(ARGV[1])
-- After the deadline its own withdrawal may have run already, and the connection would stay registered for ever.
if ARGV[9] ~= '' and now > tonumber(ARGV[9]) then
  return redis.error_reply('LATE the caller has stopped waiting')
end
if ARGV[13] ~= '' and tonumber(call('GET', P .. 'rooms_at') or 0) > tonumber(ARGV[13]) then return { 'stale' } end
local node, device, packed = ARGV[2], ARGV[4], ARGV[5]
local field = 'c:' .. node .. '.' .. ARGV[3]
local max_count, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local rooms = cjson.decode(packed)
local answer = { last_seq() }

-- The rooms of a user are those of its newest connection: the user's other devices move to them. Devices in the public
-- channel have nothing else in common: each of them has the rooms of its own newest connection. Answers the rooms before,
-- nil where there were none or the same.
local function move(user, handle)
  local is_public = user == ARGV[8]
  local key, field = P .. 'users', user
  if is_public then key, field = P .. 'device:' .. handle, 'rooms' end
  local old = call('HGET', key, field)
  if old == packed then return nil end
  call('HSET', key, field, packed)
  if not old then return nil end
  old = cjson.decode(old)
  move_devices(is_public and { handle, '' } or call('HGETALL', P .. 'user:' .. user), old, rooms)
  return old
end

-- Of a user with more devices so many are looked at: all of them, unless very many are connected.
local LOOKED_AT = 256
local most_devices = tonumber(ARGV[11])

-- The devices of a user that are away, at most so many, the longest first: those without an expiry in the order of their handles.
local function away_longest(user, most)
  local states, away = call('HRANDFIELD', P .. 'user:' .. user, LOOKED_AT, 'WITHVALUES'), {}
  for i = 1, #states, 2 do
    local deadline = string.match(states[i + 1], '^@(%d+)')
    if deadline then away[#away + 1] = { tonumber(deadline), tonumber(states[i]), states[i] } end
  end
  table.sort(away, function(one, other)
    if one[1] ~= other[1] then return one[1] < other[1] end
    return one[2] < other[2]
  end)
  local handles = {}
  for i = 1, math.min(#away, most) do handles[i] = away[i][3] end
  return handles
end

-- Forgets devices of a user until one more may be known: those that are longest away. Answers whether the user has as
-- many devices as it may. Then the new device may be one that was forgotten so, and its messages are lost: the others
-- expire after it, so the user has as many until its own time is over. The public channel is no user.
local function make_room(user)
  if most_devices == 0 or user == ARGV[8] then return false end
  local excess = call('HLEN', P .. 'user:' .. user) - most_devices
  if excess < 0 then return false end
  call('UNLINK', P .. 'nothing')
  forget_devices(away_longest(user, excess + 1), 'withdrawn', 'device forgotten')
  return true
end

local function handle_of(user)
  local name = device_name(user, device)
  local handle = call('HGET', P .. 'devices', name)
  if handle then
    local deadline = call('ZSCORE', P .. 'expiry', handle)
    if not deadline or tonumber(deadline) > now then return handle end
    -- In a full Redis too: freeing begins with a write that needs no memory.
    call('UNLINK', P .. 'nothing')
    remove_device(handle, 'expired', 'device_ttl')
  end
  local was_full = make_room(user)
  handle = tostring(call('INCR', P .. 'handle'))
  call('HSET', P .. 'devices', name, handle)
  -- if journal
  write_fate('k', 'device', 'handle', handle, 'user', user, 'device', device, 'at', string.format('%.0f', now))
  -- end if
  if was_full then
    call('HSET', P .. 'device:' .. handle, 'user', user, 'device', device)
    note_loss(handle, 'device forgotten')
    call('HSET', P .. 'device:' .. handle, 'lost', last_seq())
  end
  return handle
end

-- The description of the client, with the time of its connect, in fields of at most 60 bytes: longer values would cost the
-- hash its compact form, and each device three times its memory. Its length tells it from what an earlier one has left.
local CLIENT_PART = 60
local function put_client(words)
  if ARGV[12] == '' then return words end
  local transport, rest = string.match(ARGV[12], '^(%S+) (.*)$')
  words[#words + 1] = 'via'
  words[#words + 1] = transport
  local text = string.format('%.0f ', now) .. rest
  text = #text .. ' ' .. text
  for first = 1, #text, CLIENT_PART do
    words[#words + 1] = 'client' .. (first - 1) / CLIENT_PART
    words[#words + 1] = string.sub(text, first, first + CLIENT_PART - 1)
  end
  return words
end

-- How many of these there are: a webhook, rooms that somebody watches, presence.
local told = call('EXISTS', P .. 'hook_events', P .. 'watched', P .. 'presence')
local function tell_coming(user, old)
-- include comings here
  note_coming(user, now, rooms, old)
end

-- With presence alone nobody is told, so few commands do: the rules are those of _online.lua.
local function come_untold(user)
  local due = call('ZSCORE', P .. 'parting', user)
  if due then
    call('ZREM', P .. 'parting', user)
    if tonumber(due) <= now then call('HDEL', P .. 'present', user) end
  end
  call('HSETNX', P .. 'present', user, string.format('%.0f', now))
end

for i = 14, #ARGV do
  local user = ARGV[i]
  coming = { user = user }
  local handle = handle_of(user)
  if call('EXISTS', P .. 'flights') == 1 then
    -- In a full Redis too.
    call('UNLINK', P .. 'nothing')
    land_handle(handle)
  end
  -- Before writes that need memory: a known device connects to a full Redis too.
  call('ZREM', P .. 'expiry', handle)
  local old = move(user, handle)
  -- With its names, because its hash may be gone (evicted, or deleted by hand).
  call('HSET', P .. 'device:' .. handle, unpack(put_client({ field, '1' .. ARGV[10], 'user', user, 'device', device })))
  call('SADD', P .. 'node:' .. node, handle)
  set_state(handle, user, rooms, state_of(handle))
  if told > 0 and user ~= ARGV[8] then
    if told == 1 and call('EXISTS', P .. 'presence') == 1 then
      come_untold(user)
    else
      tell_coming(user, old or coming.rooms)
    end
  end
  take_originals(handle, user, device, now)
  local part = waiting_or_lost(handle, 0, max_count, max_bytes)
  if call('EXISTS', P .. 'queue:' .. handle) == 1 then call('SADD', P .. 'resting', handle) end
  local held = call('HMGET', P .. 'device:' .. handle, 'lost', 'withdrawn', 'device_rooms')
  if held[2] then call('HDEL', P .. 'device:' .. handle, 'withdrawn') end
  if held[3] then drop_device_rooms(handle, held[3]) end
  answer[#answer + 1] = { handle, held[1] and '1' or '0', part, held[2] or '' }
end
-- The answer covers the messages that were taken over.
answer[1] = last_seq()
-- A device that comes back while a large message is stored hears of it by this node: see _large.lua.
if call('EXISTS', P .. 'large') == 1 then call('HSETNX', P .. 'bus', node, 0) end
return answer
