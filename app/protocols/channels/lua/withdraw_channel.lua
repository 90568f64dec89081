-- include site
-- include frees
-- Withdraws a channel whose creation got no answer.
-- KEYS[1] prefix
-- ARGV    channel | digest of its token
-- Answers 1, or 0 when there is no channel with this token. A channel whose token was renewed is in use.
if call('HGET', P .. 'channels', ARGV[1]) ~= ARGV[2] then return 0 end
if call('HEXISTS', P .. 'renewed:channels', ARGV[1]) == 1 then return 0 end
call('HDEL', P .. 'latest:channels', ARGV[1])
return call('HDEL', P .. 'channels', ARGV[1])
