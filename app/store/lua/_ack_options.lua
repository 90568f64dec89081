-- Included last by ack.lua: what the options of a message ask for at an ack. Made when the first message with options is
-- acknowledged, because every run of a script makes all its functions.
local function load_ack_options(bodies)
-- include clock here
-- include options here
-- include emit here
  local waited = {}

  local function emit_ack(body, handle, ms)
    if not wants_event('message.acknowledged') then return end
    local names = call('HMGET', P .. 'device:' .. handle, 'user', 'device')
    local data = { id = body.id, user = names[1], device = names[2], ms = ms }
    if body.late then data.late = true end
    emit('message.acknowledged', clock(ARGV[1]), names[1], cjson.encode(data))
  end

  -- One device has acknowledged a message with options.
  local function apply(seq, body, handle, ms)
    local options = body.options
    if options.collapse then forget_newest(handle, options.collapse, seq) end
    if options.wait then
      waited[seq] = waited[seq] or {}
      table.insert(waited[seq], handle)
    end
    if options.notify then emit_ack(body, handle, ms) end
    local user = (options.ack_within or options.settle) and user_of(handle)
    if not user then return end
    if options.ack_within then call('SREM', P .. 'pending:' .. seq, user) end
    if options.settle == 'user' then
      local taken = take_out(seq, call('HKEYS', P .. 'user:' .. user), options, 'settled', 'settle')
      tell_withdrawn(seq, body.id, taken)
    end
  end

  -- Tells the nodes that wait for acks.
  local function tell_waiting()
    for seq, handles in pairs(waited) do
      local body = bodies[seq]
      if body.waiter and call('ZSCORE', P .. 'waits', seq) then
        tell(body.waiter, 'acked', string.sub(P, 9, -3), seq, body.id, table.concat(handles, ','), '', '')
      end
    end
  end

  return apply, tell_waiting
end
