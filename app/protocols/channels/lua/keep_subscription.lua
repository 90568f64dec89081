-- include shared
-- A resumable subscriber has subscribed to a channel, or unsubscribed.
-- KEYS[1] prefix
-- ARGV    'keep' or 'drop' | uuid | claim | channel
-- Answers 'kept' (or dropped), 'unknown' (there is no such channel), or 'gone' when another connection has the subscriber,
-- or nobody.
local key, field = P .. 'subscriber:' .. ARGV[2], 'c:' .. ARGV[4]
if call('HGET', key, 'claim') ~= ARGV[3] then return 'gone' end
if ARGV[1] == 'drop' then
  call('HDEL', key, field)
else
  local digest = call('HGET', P .. 'channels', ARGV[4])
  if not digest then return 'unknown' end
  -- The number keeps the order of subscribing, which a hash has not.
  call('HSET', key, field, call('HINCRBY', key, 'subscribed', 1) .. ':' .. last_seq() .. ':' .. digest)
end
return 'kept'
