-- A node holds connections in these rooms from now on (site without queues), or does not any more.
-- KEYS[1] prefix
-- ARGV    'join' or 'leave' | node | room ...
local command = ARGV[1] == 'join' and 'SADD' or 'SREM'
local node = ARGV[2]
for i = 3, #ARGV do
  call(command, P .. 'members:' .. ARGV[i], node)
  call(command, P .. 'joined:' .. node, ARGV[i])
end
return redis.status_reply('OK')
