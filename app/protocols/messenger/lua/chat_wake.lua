-- include mode
-- include site
-- Wakes the node whose relay works: the outbox of the site has rows. The loss of the word costs a second.
-- KEYS[1] prefix
local node = call('GET', P .. 'chat_lease')
if not node then return 0 end
local text = 'hooks\n' .. string.sub(P, 9, -3)
if IS_SHARDED then
  call('SPUBLISH', P .. 'bus:' .. node, text)
else
  call('PUBLISH', 'recado:bus:' .. node, text)
end
return 1
