-- include shared
-- What nodes leave for one another, for a short while.
-- KEYS[1] prefix
-- ARGV    'see' | digest of a key | ms                    Answers 1 when it was not seen before.
--         'answer' | question | answer | ms | at most so many
--         'answers' | question                            Answers what was answered.
if ARGV[1] == 'see' then
  return call('SET', P .. 'topics:seen:' .. ARGV[2], '', 'NX', 'PX', ARGV[3]) and 1 or 0
end
local key = P .. 'topics:answers:' .. ARGV[2]
if ARGV[1] == 'answers' then return call('LRANGE', key, 0, -1) end
if call('RPUSH', key, ARGV[3]) <= tonumber(ARGV[5]) then call('PEXPIRE', key, ARGV[4]) else call('RPOP', key) end
return redis.status_reply('OK')
