-- include site
-- Extends a stream. Both secrets are digests, so that the time of the comparison reveals nothing.
-- KEYS[1] prefix
-- ARGV    number | digest of the presented secret | digest of the next secret | ms | limit of extensions
-- Answers 'extended', 'unknown', 'wrong' or 'exhausted'
local key = P .. 'topics:stream:' .. ARGV[1]
local found = call('HMGET', key, 'secret', 'extended')
if not found[1] then return 'unknown' end
if found[1] ~= ARGV[2] then return 'wrong' end
if tonumber(found[2]) >= tonumber(ARGV[5]) then return 'exhausted' end
call('HSET', key, 'secret', ARGV[3], 'extended', tonumber(found[2]) + 1)
call('PEXPIRE', key, ARGV[4])
return 'extended'
