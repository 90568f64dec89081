-- include attempts
-- Notes an attempt that is no post's: a test.
-- KEYS[1] prefix
-- ARGV    the attempt as JSON
note_attempt(ARGV[1])
return redis.status_reply('OK')
