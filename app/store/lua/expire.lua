-- include clock
-- include devices
-- include large
-- include escalate
-- include flights
-- include frees
-- The work of a moment: lands messages that were in flight for long, forgets devices that have been away for longer than
-- device_ttl, takes messages whose ttl is over out of the queues, tells of messages that nobody has acknowledged in time, and
-- ends a large message whose node has died.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers { how much was done, ms until more is due or -1 }. Unless nothing was, more may be due: call again.
local now = clock(ARGV[1])
local most = tonumber(ARGV[2])
-- Messages that have been in flight for longer land.
local MOST_FLIGHT_MS = 1500

-- Lands them, and answers how many, and the ms until the next one is due.
local function land_late()
  if call('EXISTS', P .. 'flights') == 0 then return 0, nil end
  local next_ms = nil
  local landed = land_flights(function(form)
    local at = string.match(form, '^%d+ (%d+)', string.find(form, '\n\n', 1, true) + 2)
    local ms = tonumber(at) + MOST_FLIGHT_MS - now
    if ms > 0 then next_ms = ms end
    return ms <= 0
  end)
  return landed, next_ms
end

-- An unfinished message of a dead node keeps the site due until its lease runs out.
local is_held = is_held_up(now)
local done = forget_devices(call('ZRANGEBYSCORE', P .. 'expiry', '-inf', now, 'LIMIT', 0, most), 'expired', 'device_ttl')

-- Takes the message that is due first out of the queues of some devices.
local function expire_message()
  local seq = call('ZRANGEBYSCORE', P .. 'ttl', '-inf', now, 'LIMIT', 0, 1)[1]
  if not seq then return 0 end
  local handles = call('SPOP', P .. 'to:' .. seq, most)
  local options = cjson.decode(call('HGET', P .. 'body:' .. seq, 'opt') or '{}')
  take_out(seq, handles, options, 'expired', 'ttl')
  if #handles < most then call('ZREM', P .. 'ttl', seq) end
  return 1
end

-- Tells of the message whose acks are due first.
local function escalate_message()
  local seq = call('ZRANGEBYSCORE', P .. 'within', '-inf', now, 'LIMIT', 0, 1)[1]
  if not seq then return 0 end
  escalate(seq, now)
  return 1
end

local landed, flight_ms = land_late()
done = done + expire_message() + escalate_message() + landed
local next_ms = is_held and LARGE_LEASE_MS or -1
if flight_ms and (next_ms < 0 or flight_ms < next_ms) then next_ms = flight_ms end
for _, key in ipairs({ 'expiry', 'ttl', 'within' }) do
  local first = call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')[2]
  local ms = first and math.max(0, tonumber(first) - now)
  if ms and (next_ms < 0 or ms < next_ms) then next_ms = ms end
end
return { done, next_ms }
