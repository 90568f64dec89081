-- include site
-- include unwatch
-- include frees
-- A node has ended: it watches no room any more.
-- KEYS[1] prefix
-- ARGV    node | most rooms in one run
-- Answers how many rooms are left.
local key = P .. 'watching:' .. ARGV[1]
for _, room in ipairs(call('SRANDMEMBER', key, ARGV[2])) do unwatch(ARGV[1], room) end
return call('SCARD', key)
