-- include site
-- include frees
-- Notes how many subscribers a node has.
-- KEYS[1] prefix
-- ARGV    node | subscribers
if ARGV[2] == '0' then return call('HDEL', P .. 'clients:channels', ARGV[1]) end
return call('HSET', P .. 'clients:channels', ARGV[1], ARGV[2])
