-- include site
-- Judges a login: of all that come at once only those before the block tell whether a password was right.
-- KEYS[1] prefix
-- ARGV    login | address | '1' where the login is known from the address | 'right', 'wrong', or '' to ask
--         | failures that block | ms in which they count | ms of the block
-- The login and the address are digests. Answers the judgement (1: it is blocked already, 2: these failures have blocked
-- it, 0: neither) and the ms of the block that are left.
local address = P .. 'chat_blocked:' .. ARGV[2]
local login = P .. 'chat_blocked:' .. ARGV[1]
local left = call('PTTL', address)
if ARGV[3] ~= '1' then left = math.max(left, call('PTTL', login)) end
if left > 0 then return {1, left} end
local failures = P .. 'chat_failures:' .. ARGV[1] .. ARGV[2]
if ARGV[4] == 'right' then call('UNLINK', failures) end
if ARGV[4] ~= 'wrong' then return {0, 0} end
local count = call('INCR', failures)
if count == 1 then call('PEXPIRE', failures, ARGV[6]) end
if count < tonumber(ARGV[5]) then return {0, 0} end
call('UNLINK', failures)
call('SET', address, 1, 'PX', ARGV[7])
-- The address: whoever lifts the block of the login lifts that of the address.
call('SET', login, ARGV[2], 'PX', ARGV[7])
return {2, tonumber(ARGV[7])}
