-- include clock
-- include devices
-- include large
-- include frees
-- Forgets devices that have been away for longer than device_ttl, and ends a large message whose node has died.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers how many were forgotten. Unless that is none, there may be more: call again.
is_held_up(clock(ARGV[1]))
local due = call('ZRANGEBYSCORE', P .. 'expiry', '-inf', clock(ARGV[1]), 'LIMIT', 0, tonumber(ARGV[2]))
return forget_devices(due)
