-- include site
-- The number of users in a room that this node watches.
-- KEYS[1] prefix
-- ARGV    room, lower case
-- Answers { version, number, '1' when further changes may not be told of: ask again later }.
local room = ARGV[1]
return { call('HGET', P .. 'watch:' .. room, 'version') or '0', call('HLEN', P .. 'inside:' .. room),
  call('EXISTS', P .. 'watch_quiet:' .. room) }
