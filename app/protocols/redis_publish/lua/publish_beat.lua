-- include clock
-- include living
-- The beat of a node that serves a site's Redis PUBLISH: registers the node as alive, and takes, keeps or gives back
-- the lease on the subscription. (The script does not touch a site's queues: it has no shared part, and its own keys.)
-- KEYS[1] 'recado:redis_publish:{<prefix>}:'
-- ARGV    node | ms that the lease lasts | ms after which a node counts as dead
--         | 'take': take the lease if it is free; 'follow': also if its holder offers it; 'offer': offer it to others,
--         but keep it until another node has taken it; 'release': give it up, whether or not there is another node
--         | '1': this server knows all subscribers, because it is not in a Cluster
-- Answers { 1 when this node was not known, 1 when it holds the lease, ms that the lease was free before (-1: it was
--           held, -2: it was handed over), end of the lease in ms of Redis's clock, number of other nodes that hear,
--           dead node, its last beat in ms, ... }
local P = KEYS[1]
local call = redis.call
local nodes, node = P .. 'nodes', ARGV[1]
local now = clock('')
-- This write needs no memory, and no key has this name. After it a full Redis lets every write pass.
call('UNLINK', P .. 'nothing')
local is_new = note_beat(nodes, node, now)
local holder = call('GET', P .. 'lease')
local function is_deaf(other)
  return ARGV[5] == '1' and call('PUBSUB', 'NUMSUB', P .. other)[2] == 0
end
-- A holder that is not subscribed loses the lease: it is dead, or it is deaf and knows it.
if holder and holder ~= node and is_deaf(holder) then
  call('DEL', P .. 'lease', P .. 'offer')
  holder = false
end
local wish = ARGV[4]
local gap = -1
local others = {}
for _, other in ipairs(call('ZRANGE', nodes, 0, -1)) do
  if other ~= node and not is_deaf(other) then others[#others + 1] = other end
end
if wish == 'offer' or wish == 'release' then
  if holder == node then
    if wish == 'offer' then
      call('SET', P .. 'offer', node, 'PX', ARGV[2])
    else
      call('DEL', P .. 'lease', P .. 'offer')
      call('SET', P .. 'held', now)
      holder = false
    end
    for _, other in ipairs(others) do call('PUBLISH', P .. other, 'offer') end
  elseif holder and wish == 'release' and call('GET', P .. 'drains') == node then
    call('DEL', P .. 'drains')
    call('PUBLISH', P .. holder, 'drained')
  end
elseif not holder then
  -- The gap counts from the last beat of the previous holder. That node may have lived a moment longer, so the gap is
  -- too long rather than too short.
  gap = now - tonumber(call('GET', P .. 'held') or now)
  holder = node
elseif wish == 'follow' and holder ~= node and call('GET', P .. 'offer') == holder then
  -- Both nodes listen at this moment. The old owner delivers the messages PUBLISHed before these two, the new owner all
  -- later messages. Until it gives the lease up it may still be delivering: then the new owner hears 'drained'.
  call('SET', P .. 'drains', holder, 'PX', ARGV[2])
  call('PUBLISH', P .. holder, 'handed\nfrom')
  call('PUBLISH', P .. node, 'handed\nto')
  call('DEL', P .. 'offer')
  gap = -2
  holder = node
end
if holder == node then
  call('SET', P .. 'lease', node, 'PX', ARGV[2])
  call('SET', P .. 'held', now)
end
local answer = { is_new, holder == node and 1 or 0, gap, now + tonumber(ARGV[2]), #others }
return append_dead(answer, nodes, now, ARGV[3])
