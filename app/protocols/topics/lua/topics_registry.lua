-- include site
-- Reads, writes or deletes registered topics.
-- KEYS[1] prefix
-- ARGV    'get' | topic ...                              Answers their registrations.
--         'put' | topic | registration | limit of topics Answers 1 when there was none.
--         'delete' | topic                               Answers 1 when there was one.
local key = P .. 'topics:registry'
if ARGV[1] == 'get' then
  return call('HMGET', key, unpack(ARGV, 2))
elseif ARGV[1] == 'delete' then
  return call('HDEL', key, ARGV[2])
end
if call('HEXISTS', key, ARGV[2]) == 0 and call('HLEN', key) >= tonumber(ARGV[4]) then
  return redis.error_reply('FULL the site has registered as many topics as it may')
end
return call('HSET', key, ARGV[2], ARGV[3])
