-- include seqs
-- Keeps a resumable subscriber of channels.
-- KEYS[1] prefix
-- ARGV    uuid | digest of its secret | ms to live, 0 = for ever
-- Answers the site's last seq: the subscriber misses nothing up to there.
local key = P .. 'subscriber:' .. ARGV[1]
call('HSET', key, 'secret', ARGV[2], 'claim', 1, 'seq', last_seq())
if ARGV[3] ~= '0' then call('PEXPIRE', key, ARGV[3]) end
return last_seq()
