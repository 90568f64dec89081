-- Takes the connections of a dead node out of a site: its devices count as disconnected since the node's last beat.
-- KEYS[1] prefix
-- ARGV    node | its last beat in ms, '' = now | device ttl in ms, 0 = for ever | at most so many devices
-- Answers { devices left to do, user room, user room, ... }: a user room for each connection that was taken out.
local node = ARGV[1]
local since = clock(ARGV[2])
local key = P .. 'node:' .. node
local answer = { 0 }
for _, handle in ipairs(call('SRANDMEMBER', key, tonumber(ARGV[4]))) do
  local user = call('HGET', P .. 'device:' .. handle, 'user')
  for _, field in ipairs(call('HKEYS', P .. 'device:' .. handle)) do
    local owner, number = string.match(field, '^c:([^.]+)%.(.+)')
    if owner == node then
      remove_connection(handle, node, number, since, tonumber(ARGV[3]))
      answer[#answer + 1] = user
    end
  end
  call('SREM', key, handle)
end
answer[1] = call('SCARD', key)
if answer[1] == 0 then
  for _, room in ipairs(call('SMEMBERS', P .. 'joined:' .. node)) do call('SREM', P .. 'members:' .. room, node) end
  call('DEL', P .. 'joined:' .. node)
  call('HDEL', P .. 'bus', node)
end
return answer
