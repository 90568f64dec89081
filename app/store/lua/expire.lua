-- include clock
-- include devices
-- include large
-- include escalate
-- include frees
-- The work of a moment: forgets devices that have been away for longer than device_ttl, takes messages whose ttl is over out of
-- the queues, tells of messages that nobody has acknowledged in time, and ends a large message whose node has died.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers { how much was done, ms until more is due or -1 }. Unless nothing was, more may be due: call again.
local now = clock(ARGV[1])
local most = tonumber(ARGV[2])
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

done = done + expire_message() + escalate_message()
local next_ms = is_held and LARGE_LEASE_MS or -1
for _, key in ipairs({ 'expiry', 'ttl', 'within' }) do
  local first = call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')[2]
  local ms = first and math.max(0, tonumber(first) - now)
  if ms and (next_ms < 0 or ms < next_ms) then next_ms = ms end
end
return { done, next_ms }
