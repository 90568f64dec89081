-- include mailbox
-- A client has these messages: they wait no more.
-- KEYS[1] the user's waiting messages
-- ARGV    user id | prefix of nodes' channels, '' = nobody waits for acks | entry ...
confirm(3, ARGV[1], ARGV[2])
return redis.status_reply('OK')
