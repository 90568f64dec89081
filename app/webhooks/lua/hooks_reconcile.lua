-- include clock
-- include presence
-- include frees
-- Finds users that the backend takes for online and that have no device any more: they left while no script told it.
-- KEYS[1] prefix
-- ARGV    now | cursor of HSCAN, '0' at first | its COUNT
-- Answers the next cursor; '0': it was the last part.
local now = clock(ARGV[1])
local part = call('HSCAN', P .. 'online', ARGV[2], 'COUNT', ARGV[3])
for i = 1, #part[2], 2 do note_leaving(part[2][i], now) end
return part[1]
