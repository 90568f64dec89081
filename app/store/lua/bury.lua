-- Takes the connections of a dead node out of a site: its devices count as disconnected since the node's last beat.
-- KEYS[1] prefix
-- ARGV    node | its last beat in ms, '' = now | device ttl in ms, 0 = for ever | at most so many devices, and names
-- Answers { devices and names left to do, user room, user room, ... }: a user room for each connection that was taken out.
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
for _, joined in ipairs(call('SPOP', P .. 'joined:' .. node, tonumber(ARGV[4]))) do call('SREM', P .. joined, node) end
answer[1] = call('SCARD', key) + call('SCARD', P .. 'joined:' .. node)
if answer[1] == 0 then call('HDEL', P .. 'bus', node) end
return answer
