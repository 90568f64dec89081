-- include history
-- Gives a resumable subscriber of channels to a new connection.
-- KEYS[1] prefix
-- ARGV    uuid | digest of its secret | ms to live, 0 = for ever
-- Answers { claim, seq up to which it has everything, then per channel: number, name, since seq, digest of the token,
--           seq of its deletion ('' while it exists) }, or nothing when the uuid is unknown or the secret is wrong.
-- (Lua compares strings by their address in memory, so the time of the comparison reveals nothing.)
local key = P .. 'subscriber:' .. ARGV[1]
if call('HGET', key, 'secret') ~= ARGV[2] then return false end
local seq = tonumber(call('HGET', key, 'seq'))
local answer = { call('HINCRBY', key, 'claim', 1), '' }
-- Whether the subscriber misses no push: then it does not matter how far back the history reaches.
local has_everything = true
if ARGV[3] ~= '0' then call('PEXPIRE', key, ARGV[3]) else call('PERSIST', key) end
local all = call('HGETALL', key)
for i = 1, #all, 2 do
  local channel = string.match(all[i], '^c:(.*)$')
  if channel then
    local number, since, digest = string.match(all[i + 1], '^(%d+):(%d+):(.*)$')
    local latest, deleted = nil, ''
    if call('HGET', P .. 'channels', channel) == digest then
      latest = tonumber(call('HGET', P .. 'latest:channels', channel) or last_seq())
    else
      -- The seq of the deletion is forgotten: the deletion is not later than the start of the history.
      deleted = call('ZSCORE', P .. 'gone:channels', digest) or string.format('%.0f', complete_from('channels'))
      latest = tonumber(deleted)
    end
    if deleted ~= '' and latest <= seq then
      -- The subscriber has everything up to the deletion.
      call('HDEL', key, all[i])
    else
      if latest > math.max(seq, tonumber(since)) then has_everything = false end
      for _, word in ipairs({ number, channel, since, digest, deleted }) do answer[#answer + 1] = word end
    end
  end
end
if has_everything then seq = math.max(seq, tonumber(last_seq())) end
answer[2] = string.format('%.0f', seq)
call('HSET', key, 'seq', answer[2])
return answer
