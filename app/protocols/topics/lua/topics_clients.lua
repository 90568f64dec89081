-- include topics
-- Reads or restores how many streams clients have.
-- KEYS[1] prefix
-- ARGV    'one' | client                                             Answers its streams on all nodes.
--         'next'                                                     Answers the number of the site's next stream, or 0.
--         'nodes'                                                    Answers the nodes that hold any.
--         'part' | node | cursor of HSCAN | COUNT of HSCAN           Answers { next cursor, { client, streams, ... } }.
--         'restore' | node | '1' to delete the counts first | client | streams ...
if ARGV[1] == 'one' then
  return topic_instances(ARGV[2])
elseif ARGV[1] == 'next' then
  local last = call('GET', P .. 'topics:number')
  return last and string.format('%.0f', tonumber(last) + 1) or '0'
elseif ARGV[1] == 'nodes' then
  return call('SMEMBERS', P .. 'topics:clients')
elseif ARGV[1] == 'part' then
  return call('HSCAN', clients_key(ARGV[2]), ARGV[3], 'COUNT', ARGV[4])
end
local key = clients_key(ARGV[2])
if ARGV[3] == '1' then call('DEL', key) end
for i = 4, #ARGV, 2 do call('HSET', key, ARGV[i], ARGV[i + 1]) end
note_holder(ARGV[2])
return redis.status_reply('OK')
