-- include fates
-- Tells the journal of messages that wait for their acks.
-- KEYS[1] prefix
-- ARGV    lines of '<seq> <written in ms> <handle,...>'
if JOURNAL_BACKLOG > 0 then write_fate('k', 'written', 'w', ARGV[1]) end
return redis.status_reply('OK')
