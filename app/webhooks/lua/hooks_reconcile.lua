-- include clock
-- include presence
-- include frees
-- Finds users that the backend takes for online and that have no device any more: they left while no script told it.
-- KEYS[1] prefix
-- ARGV    now | cursor of HSCAN, '0' at first | its COUNT
-- Answers the next cursor; '0': it was the last part.
local now = clock(ARGV[1])
local part = call('HSCAN', P .. 'online', ARGV[2], 'COUNT', ARGV[3])
local told = presence_of_site()
for i = 1, told and #part[2] or 0, 2 do told.leave(part[2][i], now) end
return part[1]
