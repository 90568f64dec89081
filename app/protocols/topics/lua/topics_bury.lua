-- include topics
-- include frees
-- Takes out a part of the clients whose streams a dead node held. Each client is answered to one caller only, so its
-- departure is told once, whichever nodes bury at the same time.
-- KEYS[1] prefix
-- ARGV    node | at most so many clients
-- Answers { 1 when more are left, client, its streams on all nodes, ... }
local key = clients_key(ARGV[1])
local answer = { 0 }
for _, client in ipairs(call('HRANDFIELD', key, ARGV[2])) do
  call('HDEL', key, client)
  answer[#answer + 1] = client
  answer[#answer + 1] = topic_instances(client)
end
answer[1] = call('EXISTS', key)
note_holder(ARGV[1])
return answer
