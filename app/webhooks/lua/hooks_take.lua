-- include site
-- Makes events of the outbox a post, which stays until it was answered, or is parked.
-- KEYS[1] prefix
-- ARGV    node | post | its time in ms | its body | its users as JSON | its seqs as JSON | its types | entry of the outbox ...
-- Answers 1; 0 when the lease is another node's; -1 when an entry is not there, because the bound of the outbox has dropped
-- it or another node has taken it.
if call('GET', P .. 'hook_lease') ~= ARGV[1] then return 0 end
local bytes = 0
for i = 8, #ARGV do
  local entry = call('XRANGE', P .. 'hooks', ARGV[i], ARGV[i])[1]
  if not entry then return -1 end
  bytes = bytes + #entry[2][10]
end
call('XDEL', P .. 'hooks', unpack(ARGV, 8))
call('HSET', P .. 'hook_post:' .. ARGV[2], 'body', ARGV[4], 'at', ARGV[3], 'users', ARGV[5], 'seqs', ARGV[6],
  'types', ARGV[7], 'bytes', bytes, 'tries', 0)
call('ZADD', P .. 'hook_posts', ARGV[3], ARGV[2])
return 1
