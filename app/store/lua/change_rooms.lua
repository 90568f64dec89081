-- include clock
-- include move
-- include inside
-- Lets a user join rooms and leave rooms, with all its devices, connected or away. The user room itself stays.
-- KEYS[1] prefix
-- ARGV    now | deadline of this request, '' = none | number of this change, '' = nobody counts | user room
--         | rooms to join as JSON | rooms to leave as JSON (lower case)
--         | rooms that the user may be in, 0 = any number
-- A change with a number that is not above the last one was applied before. Connects name the number up to which their
-- rooms hold the changes: see connect.lua.
-- Answers how many devices have moved: 0 also for a user without devices, whose next connect brings its rooms; -1 when
-- the user would be in too many rooms: then nothing has changed.
local now, user = clock(ARGV[1]), ARGV[4]
if ARGV[2] ~= '' and now > tonumber(ARGV[2]) then
  return redis.error_reply('LATE the caller has stopped waiting')
end
if ARGV[3] ~= '' then
  if tonumber(call('GET', P .. 'rooms_at') or 0) >= tonumber(ARGV[3]) then return 0 end
  call('SET', P .. 'rooms_at', ARGV[3])
end
local packed = call('HGET', P .. 'users', user)
if not packed then return 0 end
local old = cjson.decode(packed)
local is_in, new = {}, {}
for _, room in ipairs(old) do is_in[room] = true end
for _, room in ipairs(cjson.decode(ARGV[5])) do is_in[room] = true end
for _, room in ipairs(cjson.decode(ARGV[6])) do is_in[room] = nil end
is_in[string.lower(user)] = true
for room in pairs(is_in) do new[#new + 1] = room end
local most = tonumber(ARGV[7])
if most > 0 and #new > most and #new > #old then return -1 end
table.sort(new)
call('HSET', P .. 'users', user, cjson.encode(new))
local states = call('HGETALL', P .. 'user:' .. user)
move_devices(states, old, new)
local room_presence = call('EXISTS', P .. 'presence') == 1 and inside_of_site()
if room_presence then room_presence.move(user, now, old, new) end
return #states / 2
