-- include clock
-- include listeners
-- include topics
-- Records the start of a stream of topics on a node.
-- KEYS[1] prefix
-- ARGV    node | client | streams of the client on the node, including this one | digest of its secret
--         | ms to live unless it is extended | client's topic (a name of an audience)
--         | audience of the patterns that match it
-- Answers { the stream's number, streams of the client on all nodes, '1' when some node listens to the client's topic }
local now = clock('')
local number = call('INCR', P .. 'topics:number')
if number == 1 then
  -- Numbers start from the time, as seqs do: they keep growing after Redis has lost its data, and none is given twice.
  number = (now - 1577836800000) * 16 + 1
  call('SET', P .. 'topics:number', string.format('%.0f', number))
end
local key = P .. 'topics:stream:' .. string.format('%.0f', number)
call('HSET', key, 'secret', ARGV[4], 'extended', 0)
call('PEXPIRE', key, ARGV[5])
call('HSET', clients_key(ARGV[1]), ARGV[2], ARGV[3])
note_holder(ARGV[1])
return { string.format('%.0f', number), topic_instances(ARGV[2]), audience_is_there('topics', ARGV[6], ARGV[7]) }
