-- include clock
-- include inside
-- include frees
-- Finds users that have left while presence was off.
-- KEYS[1] prefix
-- ARGV    now | cursor of HSCAN, '0' at first | its COUNT
-- Answers the next cursor; '0': it was the last part.
local now, room_presence = clock(ARGV[1]), inside_of_site()
local part = call('HSCAN', P .. 'present', ARGV[2], 'COUNT', ARGV[3])
for i = 1, room_presence and #part[2] or 0, 2 do room_presence.leave(part[2][i], now) end
return part[1]
