-- include shared
-- The digests of the tokens of channels, in their order; changes nothing.
-- KEYS[1] prefix
-- ARGV    channel ...
return call('HMGET', P .. 'channels', unpack(ARGV))
