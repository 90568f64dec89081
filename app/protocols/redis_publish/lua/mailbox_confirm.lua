-- include mailbox
-- include frees
-- Removes messages that a client has.
-- KEYS[1] the user's waiting messages
-- ARGV    user id | prefix of nodes' channels, '' = no connection waits for acks | entry ...
confirm(3, ARGV[1], ARGV[2])
return redis.status_reply('OK')
