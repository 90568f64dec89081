-- include clock
-- include devices
-- include comings
-- include tell
-- include lost
-- include seqs
-- include frees
-- Drops the queue of a device of a user because an operator or the tenant says so.
-- KEYS[1] prefix
-- ARGV    user room | device id | whether the device stays and gets _resync, '1' or '0'
-- Answers 1, or 0 when there is no such device. Nodes close the connections of one that is forgotten, or send _resync.
local handle = call('HGET', P .. 'devices', device_name(ARGV[1], ARGV[2]))
if not handle then return 0 end
local nodes = state_of(handle)
land_handle(handle)
if ARGV[3] == '1' then
  drop_queue(handle, nil, 'resynced', 'asked for')
  note_loss(handle, 'asked for')
  call('HSET', P .. 'device:' .. handle, 'lost', last_seq())
else
  remove_device(handle, 'withdrawn', 'device forgotten')
  call('SREM', P .. 'resting', handle)
  note_leaving(ARGV[1], clock(''))
end
for node in string.gmatch(nodes, '[^,]+') do
  if ARGV[3] == '1' then
    tell(node, 'message', string.sub(P, 9, -3), last_seq(), '0', '', handle, 'null')
  else
    call('SREM', P .. 'node:' .. node, handle)
    tell(node, 'close', string.sub(P, 9, -3), last_seq(), '0', handle, '', '')
  end
end
return 1
