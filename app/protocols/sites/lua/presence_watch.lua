-- include clock
-- include inside
-- include room_part
-- A node watches a room. The first one reads its users, in parts; from the first part on each change counts.
-- KEYS[1] prefix
-- ARGV    now | node | room, lower case | cursor of HSCAN, '0' at first | its COUNT | public channel, '' = none
-- Answers { next cursor } until the room is read, and 'off' for a site without presence; then { '0', version, number of
-- users, most members, then for each user, unless they are more: user, since when in ms }.
local now, room = clock(ARGV[1]), ARGV[3]
local room_presence = inside_of_site()
if not room_presence then return { 'off' } end
local watch, key, first = P .. 'watch:' .. room, P .. 'inside:' .. room, ARGV[4] == '0'
if first then
  call('SADD', P .. 'watched', room)
  call('SADD', P .. 'watching:' .. ARGV[2], room)
  -- Of the time: it grows on when the room is watched again later.
  call('HSETNX', watch, 'version', string.format('%.0f', now))
  call('HSET', watch, 'n:' .. ARGV[2], 1)
end
if call('HEXISTS', watch, 'is_read') == 0 then
  local added = 0
  local cursor = look_at_part(room, now, ARGV[4], ARGV[5], ARGV[6], function(user, since)
    added = added + call('HSETNX', key, user, since)
  end)
  call('HINCRBY', watch, 'version', added)
  if cursor ~= '0' then return { cursor } end
  call('HSET', watch, 'is_read', 1)
end
local count = call('HLEN', key)
local answer = { '0', call('HGET', watch, 'version'), count, room_presence.most }
if count <= room_presence.most then
  for _, word in ipairs(call('HGETALL', key)) do answer[#answer + 1] = word end
end
return answer
