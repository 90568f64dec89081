-- include large
-- Ends a large message that is not accepted yet; see _large.lua.
-- KEYS[1] prefix
-- ARGV    message id
-- Answers what fan_out_commit.lua has answered, as JSON, or nothing: then the message is not stored and never will be.
local sent = call('GET', P .. 'sent:' .. ARGV[1])
if not sent and call('HGET', P .. 'large', 'id') == ARGV[1] then end_large() end
return sent
