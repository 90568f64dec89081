-- include site
-- Reads the digests of a channel: of its first token, and of the one that it has now.
-- KEYS[1] prefix
-- ARGV    channel
-- Answers { digest of the first token, digest of the newest token }; nothing when there is no such channel.
local first = call('HGET', P .. 'channels', ARGV[1])
return first and { first, call('HGET', P .. 'renewed:channels', ARGV[1]) or first }
