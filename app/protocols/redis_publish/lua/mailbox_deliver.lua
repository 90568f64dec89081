-- include clock
-- include mailbox
-- Delivers one message to one user: tells the nodes of a connected user, or appends it to the list of an absent user.
-- KEYS[1] the user's waiting messages
-- ARGV    user id | entry | end of the caller's lease, in ms of Redis's clock | seconds that the list lives
--         | '1': the message waits until the client acknowledges it | most messages | most bytes
--         | prefix of nodes' channels | the same, '' in a Cluster | id of the stream's entry, '' = none
--         | the application's own id, '' = none | seconds that this id is remembered
-- Answers { 'delivered', 'queued' or 'duplicate', messages dropped because the list was full }
local uid, entry, expiry_seconds = ARGV[1], ARGV[2], ARGV[4]
-- Another node may own the subscription by now. That node delivers the message itself.
if clock('') > tonumber(ARGV[3]) then return redis.error_reply('LATE the lease is over') end

local function is_after(id, other)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_number = string.match(other, '(%d+)-(%d+)')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(number) > tonumber(other_number))
end

local fields = call('HGETALL', connections)
local nodes, seen, is_fetched = {}, {}, false
for i = 1, #fields, 2 do
  local node = string.match(fields[i], '^[^.]+')
  if not seen[node] then
    seen[node] = true
    nodes[#nodes + 1] = node
  end
  if string.sub(fields[i + 1], -1) == 'f' then is_fetched = true end
end
-- A connection that still fetches waiting messages gets this one from the list, behind the others.
local in_list = #nodes == 0 or is_fetched or ARGV[5] == '1'
-- This check comes before the first write: a refused message has not been taken.
if in_list and is_no_list() then return redis.error_reply('WRONGTYPE ' .. waiting .. ' is no list') end

-- The stream is read in order, but entries that a node read before it lost its lease are claimed from it later.
local TAKEN = 32
if ARGV[10] ~= '' then
  local is_full = call('LLEN', taken) == TAKEN
  if call('LPOS', taken, ARGV[10]) or (is_full and not is_after(ARGV[10], call('LINDEX', taken, -1))) then
    return { 'duplicate', 0 }
  end
  call('LPUSH', taken, ARGV[10])
  call('LTRIM', taken, 0, TAKEN - 1)
  call('EXPIRE', taken, STATE_SECONDS)
end
if ARGV[11] ~= '' and not call('SET', P .. 'id:' .. redis.sha1hex(ARGV[11]), 1, 'NX', 'EX', ARGV[12]) then
  return { 'duplicate', 0 }
end

-- The size includes Redis's own overhead. A list is kept in pieces of 8 KB: a sample of all of them costs little.
local function bytes_of(list) return call('MEMORY', 'USAGE', list, 'SAMPLES', 0) end

-- Appends the entry, and drops the oldest messages over the bounds. Returns the number of dropped messages.
local function add_to(list)
  local max_count, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
  local length = call('RPUSH', list, entry)
  local dropped = math.max(0, length - max_count)
  if dropped > 0 then call('LTRIM', list, dropped, -1) end
  local bytes = bytes_of(list)
  while bytes > max_bytes and length - dropped > 1 do
    local count = math.ceil((length - dropped) * (1 - max_bytes / bytes))
    call('LTRIM', list, math.min(count, length - dropped - 1), -1)
    dropped = length - call('LLEN', list)
    bytes = bytes_of(list)
  end
  return dropped
end

local list = in_list and waiting or told
local dropped = add_to(list)
-- Told messages expire too: all nodes of their user may have vanished for good.
call('EXPIRE', list, expiry_seconds)
if #nodes == 0 then return { 'queued', dropped } end
local number = call('HINCRBY', state, 'told', 1)
local message = table.concat({ 'message', uid, number, first_of(fields, ARGV[9]), in_list and 1 or 0, entry }, '\n')
for _, node in ipairs(nodes) do call('PUBLISH', ARGV[8] .. node, message) end
return { 'delivered', dropped }
