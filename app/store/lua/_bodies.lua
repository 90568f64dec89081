-- include stored
-- include left
-- Drops `count` references to a body. With the last one the body is deleted, and what is kept for the options of its message:
-- see _options.lua. A backend that is to be told of users without an ack is told all the same. `body` has the message's id,
-- options and references, where the caller has just read them: then the last ones cost no command.
local function release(seq, count, body)
  local key = P .. 'body:' .. seq
  if not (body and body.refs == count) and call('HINCRBY', key, 'refs', -count) > 0 then return end
  uncount_stored(key)
  local held = body and { body.id, body.options } or call('HMGET', key, 'id', 'opt')
  if held[1] then call('ZREM', P .. 'waiting', held[1]) end
  if held[2] then
    call('UNLINK', P .. 'to:' .. seq)
    call('ZREM', P .. 'ttl', seq)
    call('ZREM', P .. 'waits', seq)
  end
  call('DEL', key)
end

-- Empties a device's queue. `keep` is a seq whose body has no counted references yet (the message that is being sent).
-- `state` and `reason` are the fate of its messages; that of `keep` is in the entry of its send.
local function drop_queue(handle, keep, state, reason)
  local key = P .. 'queue:' .. handle
  local seqs = call('LRANGE', key, 0, -1)
  if seqs[#seqs] == keep then seqs[#seqs] = nil end
  for _, seq in ipairs(seqs) do release(seq, 1) end
  -- if journal
  if #seqs > 0 then write_left(state, reason, seqs, { handle }) end
  -- end if
  call('DEL', key, P .. 'collapse:' .. handle)
  call('HDEL', P .. 'bytes', handle)
end
