-- include site
-- Reads a part of the channels of a site, and what /sysadmin tells beside them.
-- KEYS[1] prefix
-- ARGV    cursor, 0 at first | about how many channels
-- Answers { next cursor, 0 at the end | number of all channels | { node, its subscribers, ... } | channel ... }. A channel
-- may be in two parts.
local part = call('HSCAN', P .. 'channels', ARGV[1], 'COUNT', ARGV[2])
local answer = { part[1], call('HLEN', P .. 'channels'), call('HGETALL', P .. 'clients:channels') }
for i = 1, #part[2], 2 do answer[#answer + 1] = part[2][i] end
return answer
