-- include attempts
-- Notes an attempt that is no post's: a test.
-- KEYS[1] prefix
-- ARGV    the attempt as JSON | its row for the journal
note_attempt(ARGV[1], ARGV[2])
return redis.status_reply('OK')
