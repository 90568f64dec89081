-- include fates
-- Tells the journal of messages that wait for their acks.
-- KEYS[1] prefix
-- ARGV    lines of '<seq> <written in ms> <handle,...>'
-- if journal
write_fate('k', 'written', 'w', ARGV[1])
-- end if
return redis.status_reply('OK')
