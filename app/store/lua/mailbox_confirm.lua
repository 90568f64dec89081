-- A client has these messages: they wait no more.
-- KEYS[1] the user's waiting messages
-- ARGV    entry ...
confirm(1)
return redis.status_reply('OK')
