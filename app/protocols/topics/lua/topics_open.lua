-- include shared
-- include topics
-- A stream of topics begins on a node.
-- KEYS[1] prefix
-- ARGV    node | client | streams of the client on the node, with this one | digest of its secret
--         | ms it lives unless it is extended | client's topic (a name of an audience) | name of the patterns that meet it
-- Answers { its number, streams of the client on all nodes, '1' when some node listens to the client's topic }
local now = clock('')
local number = call('INCR', P .. 'topics:number')
if number == 1 then
  -- As seq begins: numbers go on growing after Redis has lost its data, so that none is given twice.
  number = (now - 1577836800000) * 16 + 1
  call('SET', P .. 'topics:number', string.format('%.0f', number))
end
local key = P .. 'topics:stream:' .. string.format('%.0f', number)
call('HSET', key, 'secret', ARGV[4], 'extended', 0)
call('PEXPIRE', key, ARGV[5])
call('HSET', clients_key(ARGV[1]), ARGV[2], ARGV[3])
note_holder(ARGV[1])
return { string.format('%.0f', number), topic_instances(ARGV[2]), audience_is_there('topics', ARGV[6], ARGV[7]) }
