-- include site
-- Reads how long a stream may still go on.
-- KEYS[1] prefix
-- ARGV    number
-- Answers ms; a number below 0 means that the stream is unknown.
return call('PTTL', P .. 'topics:stream:' .. ARGV[1])
