-- include clock
-- include devices
-- include large
-- include frees
-- Forgets devices that have been away for longer than device_ttl, and ends a large message whose node has died.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers { how many were forgotten, ms until the next one is due or -1 }. Unless none was, more may be due: call again.
local now = clock(ARGV[1])
-- An unfinished message of a dead node keeps the site due until its lease runs out.
local is_held = is_held_up(now)
local forgotten = forget_devices(call('ZRANGEBYSCORE', P .. 'expiry', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2])),
  'expired', 'device_ttl')
local first = call('ZRANGE', P .. 'expiry', 0, 0, 'WITHSCORES')[2]
local next_ms = first and math.max(0, tonumber(first) - now) or -1
if is_held and (next_ms < 0 or next_ms > LARGE_LEASE_MS) then next_ms = LARGE_LEASE_MS end
return { forgotten, next_ms }
