-- include chat_connected
-- Does so with some of all users who are online. KEYS[1] prefix; ARGV cursor, '0' at the begin | users of one run.
-- Answers the next cursor ('0' at the end), and the users.
local cursor, pairs_ = unpack(call('HSCAN', P .. 'chat_online', ARGV[1], 'COUNT', ARGV[2]))
local answer = { cursor }
for i = 1, #pairs_, 2 do
  local user = pairs_[i]
  if not is_connected(user) and call('HDEL', P .. 'chat_online', user) == 1 then answer[#answer + 1] = user end
end
return answer
