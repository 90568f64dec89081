-- include seqs
-- Lets a node join rooms (of a site without queues) or names of audiences, or leave them.
-- KEYS[1] prefix
-- ARGV    'join' or 'leave' | node | 'members:<room>' or 'audience:<protocol>:<name>' ...
-- Answers the site's last seq.
local command = ARGV[1] == 'join' and 'SADD' or 'SREM'
local node = ARGV[2]
for i = 3, #ARGV do
  call(command, P .. ARGV[i], node)
  call(command, P .. 'joined:' .. node, ARGV[i])
end
return last_seq()
