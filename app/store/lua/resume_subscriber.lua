-- Gives a resumable subscriber of channels to a new connection.
-- KEYS[1] prefix
-- ARGV    uuid | digest of its secret | ms to live, 0 = for ever
-- Answers { claim, seq up to which it has everything, then per channel that still exists: number, name, since seq,
--           digest of the token }, or nothing when there is no such uuid and secret. (Lua compares texts by their place
--           in memory: the time tells nothing.)
local key = P .. 'subscriber:' .. ARGV[1]
if call('HGET', key, 'secret') ~= ARGV[2] then return false end
local answer = { call('HINCRBY', key, 'claim', 1), call('HGET', key, 'seq') }
if ARGV[3] ~= '0' then call('PEXPIRE', key, ARGV[3]) else call('PERSIST', key) end
local all = call('HGETALL', key)
for i = 1, #all, 2 do
  local channel = string.match(all[i], '^c:(.*)$')
  if channel then
    local number, since, digest = string.match(all[i + 1], '^(%d+):(%d+):(.*)$')
    if call('HGET', P .. 'channels', channel) == digest then
      for _, word in ipairs({ number, channel, since, digest }) do answer[#answer + 1] = word end
    else
      call('HDEL', key, all[i])
    end
  end
end
return answer
