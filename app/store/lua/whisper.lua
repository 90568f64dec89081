-- include seqs
-- include tell
-- Hands an event that is kept nowhere to the connected devices of rooms: it has no seq, no queue and no ack.
-- KEYS[1] prefix
-- ARGV    body | most devices of all rooms together | address ...   ('user:<room>' or 'room:<room in lower case>')
-- Answers how many devices are told: 0 also when the rooms have more.
local devices, told, seen, per_node = 0, 0, {}, {}
for i = 3, #ARGV do devices = devices + call('HLEN', P .. ARGV[i]) end
if devices > tonumber(ARGV[2]) then return 0 end
for i = 3, #ARGV do
  local states = call('HGETALL', P .. ARGV[i])
  for k = 1, #states, 2 do
    local handle = states[k]
    if not seen[handle] and string.byte(states[k + 1]) ~= 64 then -- '@'
      seen[handle] = true
      told = told + 1
      for node in string.gmatch(states[k + 1], '[^,]+') do
        per_node[node] = per_node[node] or {}
        table.insert(per_node[node], handle)
      end
    end
  end
end
for node, handles in pairs(per_node) do
  tell(node, 'whisper', string.sub(P, 9, -3), last_seq(), '0', table.concat(handles, ','), '', ARGV[1])
end
return told
