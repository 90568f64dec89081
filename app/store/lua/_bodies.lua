-- include stored
-- Drops `count` references to a body; the body is deleted with the last reference.
local function release(seq, count)
  local key = P .. 'body:' .. seq
  if call('HINCRBY', key, 'refs', -count) > 0 then return end
  uncount_stored(key)
  call('DEL', key)
end

-- Empties a device's queue. `keep` is a seq whose body has no counted references yet (the message that is being sent).
local function drop_queue(handle, keep)
  local key = P .. 'queue:' .. handle
  for _, seq in ipairs(call('LRANGE', key, 0, -1)) do
    if seq ~= keep then release(seq, 1) end
  end
  call('DEL', key)
  call('HDEL', P .. 'bytes', handle)
end
