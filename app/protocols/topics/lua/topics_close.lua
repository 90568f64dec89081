-- include listeners
-- include topics
-- include frees
-- Records the end of a stream of topics.
-- KEYS[1] prefix
-- ARGV    node | client | remaining streams of the client on the node | number of the stream, '' = none
--         | client's topic (a name of an audience) | audience of the patterns that match it
-- Answers { streams of the client on all nodes, '1' when some node listens to the client's topic }
local key = clients_key(ARGV[1])
if ARGV[4] ~= '' then call('DEL', P .. 'topics:stream:' .. ARGV[4]) end
if ARGV[3] == '0' then call('HDEL', key, ARGV[2]) else call('HSET', key, ARGV[2], ARGV[3]) end
note_holder(ARGV[1])
return { topic_instances(ARGV[2]), audience_is_there('topics', ARGV[5], ARGV[6]) }
