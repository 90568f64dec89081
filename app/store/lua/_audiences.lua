-- include tell
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
