-- include site
-- Short-lived notes of nodes for one another: used keys, and answers to questions.
-- KEYS[1] prefix
-- ARGV    'see' | digest of a key | ms                    Answers 1 when the digest is new.
--         'answer' | question | answer | ms | limit of answers
--         'answers' | question                            Answers the collected answers.
if ARGV[1] == 'see' then
  return call('SET', P .. 'topics:seen:' .. ARGV[2], '', 'NX', 'PX', ARGV[3]) and 1 or 0
end
local key = P .. 'topics:answers:' .. ARGV[2]
if ARGV[1] == 'answers' then return call('LRANGE', key, 0, -1) end
if call('RPUSH', key, ARGV[3]) <= tonumber(ARGV[5]) then call('PEXPIRE', key, ARGV[4]) else call('RPOP', key) end
return redis.status_reply('OK')
