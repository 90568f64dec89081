-- include shared
-- Forgets devices that have been away for longer than device_ttl.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers how many were forgotten. If that is the most, there may be more: call again.
local due = call('ZRANGEBYSCORE', P .. 'expiry', '-inf', clock(ARGV[1]), 'LIMIT', 0, tonumber(ARGV[2]))
for _, handle in ipairs(due) do remove_device(handle) end
return #due
