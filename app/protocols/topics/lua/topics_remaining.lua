-- include shared
-- How long a stream may still go on.
-- KEYS[1] prefix
-- ARGV    number
-- Answers ms; below 0: it is not known any more.
return call('PTTL', P .. 'topics:stream:' .. ARGV[1])
