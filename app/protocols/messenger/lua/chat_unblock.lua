-- include site
-- Lifts the block of a login, and that of the address whose failures have made it.
-- KEYS[1] prefix
-- ARGV    login, as a digest
-- Answers 1, or 0 where nothing was blocked.
local login = P .. 'chat_blocked:' .. ARGV[1]
local address = call('GET', login)
if not address then return 0 end
call('UNLINK', login)
call('UNLINK', P .. 'chat_blocked:' .. address)
return 1
