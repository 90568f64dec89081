-- include site
-- A node has stopped to wait for the acks of a message.
-- KEYS[1] prefix
-- ARGV    seq
return call('ZREM', P .. 'waits', ARGV[1])
