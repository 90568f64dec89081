-- include seqs
-- include frees
-- Keeps or drops a resumable subscriber's subscription to a channel.
-- KEYS[1] prefix
-- ARGV    'keep' or 'drop' | uuid | claim | channel
-- Answers 'kept' (also after a drop), 'unknown' (there is no such channel), or 'gone' (another connection holds the
-- subscriber, or it is forgotten).
local key, field = P .. 'subscriber:' .. ARGV[2], 'c:' .. ARGV[4]
if call('HGET', key, 'claim') ~= ARGV[3] then return 'gone' end
if ARGV[1] == 'drop' then
  call('HDEL', key, field)
else
  local digest = call('HGET', P .. 'channels', ARGV[4])
  if not digest then return 'unknown' end
  -- The number keeps the order of subscribing, because a hash has no order.
  call('HSET', key, field, call('HINCRBY', key, 'subscribed', 1) .. ':' .. last_seq() .. ':' .. digest)
end
return 'kept'
