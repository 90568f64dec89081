-- include site
-- include frees
-- Withdraws a channel whose creation got no answer.
-- KEYS[1] prefix
-- ARGV    channel | digest of its token
-- Answers 1, or 0 when there is no channel with this token.
if call('HGET', P .. 'channels', ARGV[1]) ~= ARGV[2] then return 0 end
call('HDEL', P .. 'latest:channels', ARGV[1])
return call('HDEL', P .. 'channels', ARGV[1])
