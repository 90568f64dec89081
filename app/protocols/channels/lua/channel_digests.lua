-- include site
-- Reads the digests of channels' tokens, in the order of the channels.
-- KEYS[1] prefix
-- ARGV    channel ...
return call('HMGET', P .. 'channels', unpack(ARGV))
