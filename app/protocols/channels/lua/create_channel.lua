-- include clock
-- include seqs
-- Creates a channel of the protocol `channels`, or renews the token of the channel that has the name.
-- KEYS[1] prefix
-- ARGV    now | deadline of this request, '' = none | channel | digest of its token | limit of channels
--         | '1' when a channel that exists gets this token
-- Answers 'created', 'renewed', 'exists' or 'full'
if ARGV[2] ~= '' and clock(ARGV[1]) > tonumber(ARGV[2]) then
  return redis.error_reply('LATE the caller has stopped waiting')
end
local key = P .. 'channels'
if call('HEXISTS', key, ARGV[3]) == 1 then
  if ARGV[6] ~= '1' then return 'exists' end
  -- The first digest stays: subscriptions name the channel by it.
  call('HSET', P .. 'renewed:channels', ARGV[3], ARGV[4])
  return 'renewed'
end
if call('HLEN', key) >= tonumber(ARGV[5]) then return 'full' end
call('HSET', key, ARGV[3], ARGV[4])
call('HSET', P .. 'latest:channels', ARGV[3], last_seq())
-- Nothing was pushed before the first channel existed, so the history is complete from here on.
if call('HSETNX', P .. 'histories', 'channels.last', last_seq()) == 1 then
  call('HSET', P .. 'histories', 'channels.floor', last_seq())
end
return 'created'
