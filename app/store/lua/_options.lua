-- include devices
-- include uncount
-- include tell
-- Options of a message, in the field `opt` of its body as JSON: ttl, collapse, settle, ack_within, wait, notify. A message
-- without options has no such field, and costs nothing here. Beside it:
--   to:<seq>       set: the devices that got it into their queue
--   ttl            sorted set: seq by the ms of its end
--   collapse:<h>   hash of a device: key of `collapse` -> seq of the newest message with it
--   within         sorted set: seq by the ms at which the users in pending:<seq> are told of
--   watched        hash: seq -> JSON { id, event } of the messages in `within`
--   pending:<seq>  set: its users of whom no device has acknowledged
--   waits          sorted set: seq by the ms at which the node in the body's field `waiter` stops to wait
local MOST_WATCHED = 10000

-- Words of one command.
local OPTION_PART = 1000

-- The user of a device; nil for one in a public channel, whose devices belong to many users.
local function user_of(handle)
  local held = call('HMGET', P .. 'device:' .. handle, 'user', 'rooms')
  return not held[2] and held[1] or nil
end

-- Whether a site may watch for the acks of one more message.
local function may_watch(options, now)
  if not (options.wait or options.ack_within) then return true end
  call('ZREMRANGEBYSCORE', P .. 'waits', '-inf', now)
  return call('ZCARD', P .. 'waits') + call('ZCARD', P .. 'within') < MOST_WATCHED
end

-- Nobody is told any more that these users have not acknowledged a message.
local function stop_watching(seq)
  if call('ZREM', P .. 'within', seq) == 0 then return end
  call('HDEL', P .. 'watched', seq)
  call('UNLINK', P .. 'pending:' .. seq)
end

-- The message has left the queue of a device: it is not the newest with its key of the option `collapse` any more.
local function forget_newest(handle, collapse, seq)
  local key = P .. 'collapse:' .. handle
  if call('HGET', key, collapse) == seq then call('HDEL', key, collapse) end
end

-- Takes the older message with the same key out of a queue, before the newer one is appended.
local function replace_older(handle, collapse, seq)
  local key = P .. 'collapse:' .. handle
  local older = call('HGET', key, collapse)
  call('HSET', key, collapse, seq)
  if not older or call('LREM', P .. 'queue:' .. handle, 1, older) == 0 then return end
  local size = tonumber(call('HGET', P .. 'body:' .. older, 'size') or 0)
  uncount_bytes(handle, size)
  if call('ZSCORE', P .. 'within', older) then
    local user = user_of(handle)
    if user then call('SREM', P .. 'pending:' .. older, user) end
  end
  release(older, 1)
  -- if journal
  write_left('replaced', 'collapse', { older }, { handle })
  -- end if
end

-- Keeps what the options of an accepted message need. `handles` have it in their queue.
local function keep_recipients(seq, options, handles)
  for i = 1, #handles, OPTION_PART do
    call('SADD', P .. 'to:' .. seq, unpack(handles, i, math.min(i + OPTION_PART - 1, #handles)))
  end
  if not options.ack_within then return end
  for _, handle in ipairs(handles) do
    local user = user_of(handle)
    if user then call('SADD', P .. 'pending:' .. seq, user) end
  end
end

-- `waiter` is '' or '<node that waits for acks> <for so many ms>'.
local function keep_deadlines(seq, options, id, event, now, waiter)
  if options.ttl then call('ZADD', P .. 'ttl', now + options.ttl * 1000, seq) end
  if options.ack_within then
    call('ZADD', P .. 'within', now + options.ack_within * 1000, seq)
    call('HSET', P .. 'watched', seq, cjson.encode({ id = id, event = event }))
  end
  if options.wait then call('ZADD', P .. 'waits', now + tonumber(string.match(waiter, '%d+$')), seq) end
end

-- Takes a message out of the queues of these devices. Answers those that had it.
local function take_out(seq, handles, options, state, reason)
  local size, taken = tonumber(call('HGET', P .. 'body:' .. seq, 'size') or 0), {}
  for _, handle in ipairs(handles) do
    if call('LREM', P .. 'queue:' .. handle, 1, seq) == 1 then
      uncount_bytes(handle, size)
      if options.collapse then forget_newest(handle, options.collapse, seq) end
      taken[#taken + 1] = handle
    end
  end
  if #taken == 0 then return taken end
  if options.wait and call('ZSCORE', P .. 'waits', seq) then
    local held = call('HMGET', P .. 'body:' .. seq, 'waiter', 'id')
    tell(held[1], 'left', string.sub(P, 9, -3), seq, held[2], table.concat(taken, ','), '', '')
  end
  -- if journal
  write_left(state, reason, { seq }, taken)
  -- end if
  release(seq, #taken)
  return taken
end

-- The ids of withdrawn messages that a device which is away is told of: at most so many bytes of 20 an id.
local MOST_WITHDRAWN_BYTES = 20000

-- Tells devices to which a message was written that it does not count any more. A node tells its own devices; a device
-- that is away is told at its next connect.
local function tell_withdrawn(seq, id, handles)
  local per_node = {}
  for _, handle in ipairs(handles) do
    local key = P .. 'device:' .. handle
    local nodes = state_of(handle)
    if nodes == '' then
      local held = call('HMGET', key, 'written', 'withdrawn')
      if held[1] and tonumber(held[1]) >= tonumber(seq) then
        local ids = (held[2] or '') .. id .. ','
        if #ids <= MOST_WITHDRAWN_BYTES then call('HSET', key, 'withdrawn', ids) end
      end
    end
    for node in string.gmatch(nodes, '[^,]+') do
      per_node[node] = per_node[node] or {}
      table.insert(per_node[node], handle)
    end
  end
  for node, list in pairs(per_node) do tell(node, 'withdraw', string.sub(P, 9, -3), seq, id, table.concat(list, ','), '', '') end
end
