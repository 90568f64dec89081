-- include chat_connected
-- Takes out those users who have no connected device any more, and answers them. KEYS[1] prefix; ARGV user ...
local gone = {}
for _, user in ipairs(ARGV) do
  if not is_connected(user) and call('HDEL', P .. 'chat_online', user) == 1 then gone[#gone + 1] = user end
end
return gone
