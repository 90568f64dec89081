-- include clock
-- include devices
-- include seqs
-- include flights
-- include frees
-- Takes connections of a dead node out of a site: its devices count as disconnected since the node's last beat.
-- KEYS[1] prefix
-- ARGV    node | its last beat in ms, '' = now | device ttl in ms, 0 = for ever | at most so many devices, and names
--         (fewer devices when they are in very many rooms)
-- Answers { number of devices and names that are left, since when in ms, then for each connection that was taken out:
--           user room, note }
local node = ARGV[1]
local since = clock(ARGV[2])
local key = P .. 'node:' .. node
local answer = { 0, since }
local has_notes, work = false, 0
-- It lands nothing any more, nor has the senders of its messages.
if call('EXISTS', P .. 'flights') == 1 then land_flights() end
for _, handle in ipairs(call('SRANDMEMBER', key, tonumber(ARGV[4]))) do
  local user = call('HGET', P .. 'device:' .. handle, 'user')
  local fields = call('HGETALL', P .. 'device:' .. handle)
  for i = 1, #fields, 2 do
    local owner, number = string.match(fields[i], '^c:([^.]+)%.(.+)')
    if owner == node then
      -- Nobody knows how much the dead node has written.
      local written = tonumber(last_seq())
      local _, rooms = remove_connection(handle, node, number, since, tonumber(ARGV[3]), written)
      work = work + rooms
      local note = string.sub(fields[i + 1], 2)
      has_notes = has_notes or note ~= ''
      answer[#answer + 1] = user
      answer[#answer + 1] = note
    end
  end
  call('SREM', key, handle)
  if work > WORK then break end
end
-- A node that was only paused must not report these connections once more: see disconnect.lua.
if has_notes then call('SET', P .. 'buried:' .. node, 1, 'PX', 86400000) end
for _, joined in ipairs(call('SPOP', P .. 'joined:' .. node, tonumber(ARGV[4]))) do call('SREM', P .. joined, node) end
answer[1] = call('SCARD', key) + call('SCARD', P .. 'joined:' .. node)
if answer[1] == 0 then call('HDEL', P .. 'bus', node) end
call('UNLINK', P .. 'seats:' .. node)
call('SREM', P .. 'seats', node)
return answer
