-- include mode
-- include clock
-- Included by every script of a site. KEYS[1] is the site's key prefix, 'recado:{site}:'; every key of a script begins
-- with it, so a script stays on the one Cluster slot of its site. The keys are listed in store/keys.py.
local P = KEYS[1]
local call = redis.call

-- The field of a device in the hash `devices`. The length in front keeps it unambiguous, whatever the names contain.
local function device_name(user, device)
  return #user .. ':' .. user .. ':' .. device
end

-- Whether `stored` counts bodies of this site: a site has it while it has a limit of them and bodies wait.
local counts_stored = nil

-- A body is about to be deleted: it does not count in `stored` any more, if it was counted there.
local function uncount_stored(key)
  if counts_stored == nil then counts_stored = call('EXISTS', P .. 'stored') == 1 end
  if not counts_stored then return end
  local held = call('HMGET', key, 'counted', 'size')
  if not held[1] then return end
  call('HINCRBY', P .. 'stored', 'bytes', -tonumber(held[2]))
  if call('HINCRBY', P .. 'stored', 'messages', -1) <= 0 then call('DEL', P .. 'stored') end
end

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

-- Writes the state of a device to the hashes that /send reads: 'node,node' while connected, '@deadline' while away.
local function set_state(handle, user, rooms, state)
  call('HSET', P .. 'user:' .. user, handle, state)
  for _, room in ipairs(rooms) do call('HSET', P .. 'room:' .. room, handle, state) end
end

-- The rooms of a device: its user's, or its own when its "user" is the public channel.
local function rooms_of(handle, user)
  local packed = call('HGET', P .. 'device:' .. handle, 'rooms') or call('HGET', P .. 'users', user)
  return packed and cjson.decode(packed) or {}
end

-- The state of a device by its connections, which are the fields 'c:<node>.<number>' of its hash.
local function state_of(handle)
  local nodes, seen = {}, {}
  for _, field in ipairs(call('HKEYS', P .. 'device:' .. handle)) do
    local node = string.match(field, '^c:([^.]+)%.')
    if node and not seen[node] then
      seen[node] = true
      nodes[#nodes + 1] = node
    end
  end
  table.sort(nodes)
  return table.concat(nodes, ',')
end

-- Forgets a device that is away: no key, field or member names it any more, nor its user if this was the last device.
local function remove_device(handle)
  local key = P .. 'device:' .. handle
  local named = call('HMGET', key, 'user', 'device')
  local user, device = named[1], named[2]
  drop_queue(handle, nil)
  call('ZREM', P .. 'expiry', handle)
  if not user then return end
  for _, room in ipairs(rooms_of(handle, user)) do call('HDEL', P .. 'room:' .. room, handle) end
  call('HDEL', P .. 'user:' .. user, handle)
  call('HDEL', P .. 'devices', device_name(user, device))
  call('DEL', key)
  if call('EXISTS', P .. 'user:' .. user) == 0 then call('HDEL', P .. 'users', user) end
end

-- Forgets devices in this order, until their queues have held as many entries as one run frees in some 15 ms. Answers how
-- many were forgotten: at least one, if there is one.
local function forget_devices(handles)
  local entries = 0
  for i, handle in ipairs(handles) do
    entries = entries + call('LLEN', P .. 'queue:' .. handle)
    if i > 1 and entries > 10000 then return i - 1 end
    remove_device(handle)
  end
  return #handles
end

-- Removes a connection of a device and sets the device's state in every room. With the last connection the device's
-- time to live begins at `now`. Answers 1 when the connection was known, else 0.
local function remove_connection(handle, node, number, now, ttl)
  local key = P .. 'device:' .. handle
  if call('HDEL', key, 'c:' .. node .. '.' .. number) == 0 then return 0 end
  local user = call('HGET', key, 'user')
  local state = state_of(handle)
  if not string.find(',' .. state .. ',', ',' .. node .. ',', 1, true) then call('SREM', P .. 'node:' .. node, handle) end
  if state == '' then
    local deadline = ttl == 0 and 0 or now + ttl
    state = '@' .. deadline
    if deadline > 0 then call('ZADD', P .. 'expiry', deadline, handle) end
  end
  set_state(handle, user, rooms_of(handle, user), state)
  return 1
end

-- The site's last seq: live messages with a higher seq follow the answer of a script. The script and a send are never
-- interleaved, so no message falls between.
local function last_seq()
  return call('GET', P .. 'seq') or '0'
end

-- Waiting messages with a seq above `after`, oldest first: at most `max_count`, and at most `max_bytes` unless the
-- first alone is longer. Answers { more ('1' or '0'), seq, body, seq, body, ... }, or nil when a body is not there.
-- An entry above the site's last seq belongs to a message that is not accepted yet (see _large.lua), and is the last one.
local function waiting(handle, after, max_count, max_bytes)
  local visible = tonumber(last_seq())
  local key = P .. 'queue:' .. handle
  local answer, bytes, count, start = { '0' }, 0, 0, 0
  while true do
    local entries = call('LRANGE', key, start, start + 255)
    if #entries == 0 then return answer end
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
  drop_queue(handle, nil)
  call('HSET', P .. 'device:' .. handle, 'lost', last_seq())
  return { '0' }
end

-- The next seq, the site's clock of messages. It starts at the milliseconds since 2020 times 16. So it grows on after
-- Redis has lost its data (up to 16,000 messages a second on average), and stays below 2^53 for JavaScript.
local function next_seq(now)
  local seq = call('INCR', P .. 'seq')
  if seq == 1 then
    seq = (now - 1577836800000) * 16 + 1
    call('SET', P .. 'seq', string.format('%.0f', seq))
  end
  return string.format('%.0f', seq)
end

-- How many messages this run has handed to nodes.
local tells = 0

-- Hands one message to a node. The counter is for one site and node: a jump tells the node that a message was lost.
-- In a Cluster (IS_SHARDED) the node hears on a channel of the site's slot, because PUBLISH would go to every server.
local function tell(node, kind, site, ...)
  local counter = call('HINCRBY', P .. 'bus', node, 1)
  tells = tells + 1
  local text = table.concat({ kind, site, counter, ... }, '\n')
  if IS_SHARDED then
    call('SPUBLISH', P .. 'bus:' .. node, text)
  else
    call('PUBLISH', 'recado:bus:' .. node, text)
  end
end

-- Whether a site may not store a message of this size, because it would hold more than so many bodies or bytes of them
-- (0 = any). Answers nil, or the answer for the caller of the script.
local function quota_refusal_of(size, most_messages, most_bytes)
  if most_messages == 0 and most_bytes == 0 then return nil end
  counts_stored = true
  local held = call('HMGET', P .. 'stored', 'messages', 'bytes')
  if most_messages > 0 and tonumber(held[1] or 0) + 1 > most_messages then return { '', 0, 'stored_messages' } end
  if most_bytes > 0 and tonumber(held[2] or 0) + size > most_bytes then return { '', 0, 'stored_bytes' } end
  return nil
end

-- Counts a body in `stored`, and notes in the body that it is counted.
local function count_stored(seq, size)
  call('HSET', P .. 'body:' .. seq, 'counted', 1)
  call('HINCRBY', P .. 'stored', 'messages', 1)
  call('HINCRBY', P .. 'stored', 'bytes', size)
end

-- Whether a send of this size is refused. `terms` is its deadline in ms of Redis's clock, '' = none; for a site with a
-- limit ',<sends a second, 0 = any>,<sends at once>,<most stored messages>,<most stored bytes>' follows. Answers nil, or
-- the answer for the caller of the script: an error, or { '', ms until the rate allows the send }, or { '', 0, the limit
-- that is reached }.
local function refusal_of(terms, now, size)
  if terms == '' then return nil end
  local deadline, rate, burst, messages, bytes = tonumber(terms), nil, nil, nil, nil
  if not deadline then
    deadline, rate, burst, messages, bytes = string.match(terms, '^(%d*),([^,]+),([^,]+),(%d+),(%d+)$')
    deadline, rate, burst = tonumber(deadline), tonumber(rate), tonumber(burst)
  end
  if deadline and now > deadline then return redis.error_reply('LATE the caller has stopped waiting') end
  if not rate then return nil end
  local refusal = quota_refusal_of(size, tonumber(messages), tonumber(bytes))
  if refusal then return refusal end
  if rate == 0 then return nil end
  -- One number is kept: the time when all sends so far would have been made at the rate, without a burst.
  local pause = 1000 / rate
  local due = tonumber(call('GET', P .. 'due') or 0)
  -- A time later than possible: the clock went back, or the limit was changed.
  if due < now or due > now + pause * burst then due = now end
  local early = due - now - pause * (burst - 1)
  if early > 0 then return { '', math.ceil(early) } end
  call('SET', P .. 'due', string.format('%.3f', due + pause), 'PX', math.ceil(due + pause - now))
  return nil
end

-- Checks the guard of a message, the condition for its publication. It stands from ARGV[i] on: 0, or
-- 1 | hash | field | the value that the field must have | '1' when the field is deleted with the message.
-- A field whose secret was renewed keeps its first value, which tells it from an earlier field of the same name; the
-- value to compare with is then in renewed:<hash>.
-- Answers the index after the guard and, when it does not hold, the answer for the caller of the script. (Lua keeps one
-- copy of equal texts and compares their places: the comparison takes the same time whatever differs.)
local function check_guard(i)
  if ARGV[i] == '0' then return i + 1 end
  local held = call('HGET', P .. 'renewed:' .. ARGV[i + 1], ARGV[i + 2]) or call('HGET', P .. ARGV[i + 1], ARGV[i + 2])
  if held ~= ARGV[i + 3] then return i + 5, { held and 'differs' or 'missing' } end
  return i + 5
end

-- The message of this seq is accepted: deletes the field of its guard where the guard says so. For names that are kept
-- for a protocol (channels) the seq of the deletion is kept too, as far back as the protocol's history reaches.
local function spend_guard(i, seq)
  if ARGV[i] ~= '1' or ARGV[i + 4] ~= '1' then return end
  local first = call('HGET', P .. ARGV[i + 1], ARGV[i + 2])
  call('HDEL', P .. ARGV[i + 1], ARGV[i + 2])
  call('HDEL', P .. 'renewed:' .. ARGV[i + 1], ARGV[i + 2])
  if call('HDEL', P .. 'latest:' .. ARGV[i + 1], ARGV[i + 2]) == 0 then return end
  call('ZADD', P .. 'gone:' .. ARGV[i + 1], seq, first)
end

-- Reads the audiences of a message from ARGV[i] on: their number, then for each: protocol | head (its part on the bus
-- and in the history) | messages (0: no history), bytes and seconds of its history | number of names | name ...
-- Answers the audiences and the index after them.
local function read_audiences(i)
  local audiences = {}
  local count = tonumber(ARGV[i])
  i = i + 1
  for a = 1, count do
    local behind = i + 6 + tonumber(ARGV[i + 5])
    audiences[a] = { protocol = ARGV[i], head = ARGV[i + 1], messages = tonumber(ARGV[i + 2]),
      bytes = tonumber(ARGV[i + 3]), seconds = tonumber(ARGV[i + 4]), first = i + 6, last = behind - 1 }
    i = behind
  end
  return audiences, i
end

-- The seq from which on no message is missing in a protocol's history. A history that has expired is empty, which is
-- complete for a reader that has heard its last message. Without any history it is complete only for the site's last
-- seq, that is if no message at all was published since.
local function complete_from(protocol)
  local marks = call('HMGET', P .. 'histories', protocol .. '.floor', protocol .. '.last')
  local is_gone = call('EXISTS', P .. 'history:' .. protocol) == 0
  return is_gone and tonumber(marks[2] or last_seq()) or tonumber(marks[1] or last_seq())
end

-- Notes that messages up to this seq may be missing in a protocol's history.
local function set_floor(protocol, floor)
  call('HSET', P .. 'histories', protocol .. '.floor', floor)
  call('ZREMRANGEBYSCORE', P .. 'gone:' .. protocol, '-inf', floor)
end

-- Keeps a message in the history of an audience's protocol. For each protocol `histories` holds the seq of its last
-- message and, as `floor`, the seq up to which messages may be missing.
local function remember(audience, now, seq, id, body)
  local key, marks, field = P .. 'history:' .. audience.protocol, P .. 'histories', audience.protocol
  if call('EXISTS', key) == 0 then
    -- An earlier history has expired, or this is the first one.
    local last = call('HGET', marks, field .. '.last') or string.format('%.0f', tonumber(seq) - 1)
    set_floor(field, last)
    call('HSET', marks, field .. '.bytes', 0)
  end
  call('XADD', key, seq .. '-0', 'at', string.format('%.0f', now), 'head', audience.head, 'id', id, 'body', body)
  call('HSET', marks, field .. '.last', seq)
  call('PEXPIRE', key, audience.seconds * 1000)
  local bytes = call('HINCRBY', marks, field .. '.bytes', #body)
  local count, floor = call('XLEN', key), nil
  while count > 1 do
    local oldest = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    local is_young = tonumber(oldest[2][2]) > now - audience.seconds * 1000
    if count <= audience.messages and bytes <= audience.bytes and is_young then break end
    floor = string.match(oldest[1], '^%d+')
    call('XDEL', key, oldest[1])
    bytes = call('HINCRBY', marks, field .. '.bytes', -#oldest[2][8])
    count = count - 1
  end
  if floor then set_floor(field, floor) end
  -- For names that are kept for the protocol (channels): the last message of each.
  for i = audience.first, audience.last do
    if call('HEXISTS', P .. 'latest:' .. field, ARGV[i]) == 1 then call('HSET', P .. 'latest:' .. field, ARGV[i], seq) end
  end
end

-- Hands the message once to each node that has joined one of an audience's names. Answers how many nodes.
local function tell_audiences(audiences, now, site, seq, id, body)
  local told = 0
  for _, audience in ipairs(audiences) do
    local seen = {}
    for i = audience.first, audience.last do
      for _, node in ipairs(call('SMEMBERS', P .. 'audience:' .. audience.protocol .. ':' .. ARGV[i])) do
        if not seen[node] then
          seen[node] = true
          told = told + 1
          tell(node, 'audience', site, seq, id, audience.head, '', body)
        end
      end
    end
    if audience.messages > 0 then remember(audience, now, seq, id, body) end
  end
  return told
end

-- '1' when any node listens to one of these names of a protocol, else '0'.
local function audience_is_there(protocol, ...)
  for _, name in ipairs({ ... }) do
    if call('EXISTS', P .. 'audience:' .. protocol .. ':' .. name) == 1 then return '1' end
  end
  return '0'
end
