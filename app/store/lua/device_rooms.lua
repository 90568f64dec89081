-- include clock
-- include devices
-- Gives one device of a user rooms of its own, in place of those that it had from here. They last until its next connect.
-- No user is in such a room: the name is the caller's own.
-- KEYS[1] prefix
-- ARGV    now | deadline of this request, '' = none | user room | device id | rooms as JSON (lower case)
-- Answers 1; 0 when nobody knows the device.
if ARGV[2] ~= '' and clock(ARGV[1]) > tonumber(ARGV[2]) then
  return redis.error_reply('LATE the caller has stopped waiting')
end
local handle = call('HGET', P .. 'devices', device_name(ARGV[3], ARGV[4]))
local state = handle and call('HGET', P .. 'user:' .. ARGV[3], handle)
if not state then return 0 end
local key = P .. 'device:' .. handle
local old = call('HGET', key, 'device_rooms')
if old then drop_device_rooms(handle, old) end
local rooms = cjson.decode(ARGV[5])
if #rooms > 0 then call('HSET', key, 'device_rooms', ARGV[5]) end
for _, room in ipairs(rooms) do call('HSET', P .. 'room:' .. room, handle, state) end
return 1
