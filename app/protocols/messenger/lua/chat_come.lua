-- include site
-- Notes users who have a connection. KEYS[1] prefix; ARGV ms since the epoch | user ...; answers those who were away.
local came = {}
for i = 2, #ARGV do
  if call('HSETNX', P .. 'chat_online', ARGV[i], ARGV[1]) == 1 then came[#came + 1] = ARGV[i] end
end
return came
