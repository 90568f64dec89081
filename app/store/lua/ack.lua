-- include seqs
-- include bodies
-- include lost
-- Applies acks in the order in which they arrived.
-- KEYS[1] prefix
-- ARGV    groups: kind ('one' or 'batch') | seq | how many | handle ...
-- Answers the handles whose ack calls for a _resync: the message was sent with resync=true, and an older message of its
-- event still waits. Messages of a batch are acknowledged as a whole prefix, so there the rule cannot be broken.
local bodies, freed, calls = {}, {}, {}
local counting = call('HLEN', P .. 'bytes') > 0

local function body_of(seq)
  local body = bodies[seq]
  if body == nil then
    local got = call('HMGET', P .. 'body:' .. seq, 'event', 'resync', 'size')
    body = got[1] and { event = got[1], resync = got[2] == '1', size = tonumber(got[3]) } or false
    bodies[seq] = body
  end
  return body
end

local function uncount(handle, size)
  if call('HEXISTS', P .. 'bytes', handle) == 1 and call('HINCRBY', P .. 'bytes', handle, -size) <= 0 then
    call('HDEL', P .. 'bytes', handle)
  end
end

-- One command to Redis for each device: acks are half of the cost of a fan-out, send.lua is the other half.
local queue = P .. 'queue:'
local function remove(handle, seq, size)
  if call('LREM', queue .. handle, 1, seq) == 0 then return end
  freed[seq] = (freed[seq] or 0) + 1
  if counting then uncount(handle, size) end
end

-- Whether an older message of the same event waits before this one. False also when this one does not wait.
local function is_out_of_turn(handle, seq, event)
  local key = P .. 'queue:' .. handle
  if call('LINDEX', key, 0) == seq then return false end
  local older = false
  for _, other in ipairs(call('LRANGE', key, 0, -1)) do
    if other == seq then return older end
    local body = body_of(other)
    if body and body.event == event then older = true end
  end
  return false
end

local function drop_event(handle, event, seq)
  local visible = tonumber(last_seq())
  for _, other in ipairs(call('LRANGE', P .. 'queue:' .. handle, 0, -1)) do
    local body = body_of(other)
    local is_accepted = tonumber(other) <= visible
    if body and body.event == event and is_accepted then remove(handle, other, body.size) end
  end
  note_loss(handle, 'ack out of turn')
  local key = P .. 'device:' .. handle
  local lost = call('HGET', key, 'lost')
  if not lost or tonumber(lost) < tonumber(seq) then call('HSET', key, 'lost', seq) end
  calls[#calls + 1] = handle
end

local i = 1
while i <= #ARGV do
  local kind, seq, count = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local body = body_of(seq)
  if body then
    local has_turn = body.resync and kind == 'one'
    for j = i + 3, i + 2 + count do
      local handle = ARGV[j]
      if has_turn and is_out_of_turn(handle, seq, body.event) then
        drop_event(handle, body.event, seq)
      else
        remove(handle, seq, body.size)
      end
    end
  end
  i = i + 3 + count
end
for seq, count in pairs(freed) do release(seq, count) end
return calls
