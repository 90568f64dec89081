-- include clock
-- include site
-- include frees
-- Returns the state that a node needs to issue a resume ticket or to check one.
-- KEYS[1] prefix
-- ARGV    now | a key for the site if it has none yet | room in lower case ...   (the rooms of a ticket)
-- Answers { now in ms, the site's key, generation of its tickets, time of the last revocation of one of the rooms }
local now = clock(ARGV[1])
local key = P .. 'tickets'
call('HSETNX', key, 'key', ARGV[2])
local revoked = 0
for i = 3, #ARGV do revoked = math.max(revoked, tonumber(call('ZSCORE', P .. 'revoked', ARGV[i]) or 0)) end
local held = call('HMGET', key, 'key', 'generation')
return { string.format('%.0f', now), held[1], held[2] or '0', string.format('%.0f', revoked) }
