-- include stored
-- include fates
-- Deletes a body, and what is kept for the options of its message: see _options.lua. A backend that is to be told of
-- users without an ack is told all the same.
local function remove_body(seq, key)
  uncount_stored(key)
  local held = call('HMGET', key, 'id', 'opt')
  if held[1] then call('HDEL', P .. 'ids', held[1]) end
  if held[2] then
    call('UNLINK', P .. 'to:' .. seq)
    call('ZREM', P .. 'ttl', seq)
    call('ZREM', P .. 'waits', seq)
  end
  call('DEL', key)
end

-- Drops `count` references to a body; the body is deleted with the last reference.
local function release(seq, count)
  local key = P .. 'body:' .. seq
  if call('HINCRBY', key, 'refs', -count) > 0 then return end
  remove_body(seq, key)
end

-- A message of this size has left a queue whose bytes may be counted.
local function uncount_bytes(handle, size)
  if call('HEXISTS', P .. 'bytes', handle) == 1 and call('HINCRBY', P .. 'bytes', handle, -size) <= 0 then
    call('HDEL', P .. 'bytes', handle)
  end
end

-- The message has left the queue of a device: it is not the newest with its key of the option `collapse` any more.
local function forget_newest(handle, collapse, seq)
  local key = P .. 'collapse:' .. handle
  if call('HGET', key, collapse) == seq then call('HDEL', key, collapse) end
end

-- Empties a device's queue. `keep` is a seq whose body has no counted references yet (the message that is being sent).
-- `state` and `reason` are the fate of its messages; that of `keep` is in the entry of its send.
local function drop_queue(handle, keep, state, reason)
  local key = P .. 'queue:' .. handle
  local seqs = call('LRANGE', key, 0, -1)
  if seqs[#seqs] == keep then seqs[#seqs] = nil end
  for _, seq in ipairs(seqs) do release(seq, 1) end
  write_dropped(handle, seqs, state, reason)
  call('DEL', key, P .. 'collapse:' .. handle)
  call('HDEL', P .. 'bytes', handle)
end
