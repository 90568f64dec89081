-- include bodies
-- include seqs
-- include lost
-- Waiting messages with a seq above `after`, oldest first: at most `max_count`, and at most `max_bytes` unless the
-- first alone is longer. Answers { more ('1' or '0'), seq, body, seq, body, ... }, or nil when a body is not there.
-- An entry above the site's last seq belongs to a message that is not accepted yet (see _large.lua), and is the last one.
local function waiting(handle, after, max_count, max_bytes)
  local key = P .. 'queue:' .. handle
  local answer, bytes, count, start, visible = { '0' }, 0, 0, 0, nil
  while true do
    local entries = call('LRANGE', key, start, start + 255)
    if #entries == 0 then return answer end
    visible = visible or tonumber(last_seq())
    for _, seq in ipairs(entries) do
      if tonumber(seq) > visible then return answer end
      if tonumber(seq) > after then
        local body = call('HGET', P .. 'body:' .. seq, 'data')
        if not body then return nil end
        bytes = bytes + #body
        count = count + 1
        if count > 1 and (count > max_count or bytes > max_bytes) then
          answer[1] = '1'
          return answer
        end
        answer[#answer + 1] = seq
        answer[#answer + 1] = body
      end
    end
    start = start + 256
  end
end

-- The same. Where the body of a waiting message is gone (evicted, or deleted by hand) the queue is dropped and the device
-- is marked as lost: it gets a _resync, and is not refused for ever.
local function waiting_or_lost(handle, after, max_count, max_bytes)
  local answer = waiting(handle, after, max_count, max_bytes)
  if answer then return answer end
  call('UNLINK', P .. 'nothing')
  drop_queue(handle, nil, 'resynced', 'redis lost data')
  note_loss(handle, 'redis lost data')
  call('HSET', P .. 'device:' .. handle, 'lost', last_seq())
  return { '0' }
end
