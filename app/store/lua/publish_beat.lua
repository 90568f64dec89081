-- A node that serves a site's Redis PUBLISH says that it lives, and takes, keeps or gives back the lease on the
-- subscription. (Not of a site's queues: no shared part, own keys.)
-- KEYS[1] 'recado:redis_publish:{<prefix>}:'
-- ARGV    node | ms that the lease lasts | ms after which a node counts as dead | '1' wants the lease, '0' gives it up
-- Answers { 1 when this node was not known, 1 when it holds the lease, ms that nobody held it before (-1: it was held),
--           until when it is held in ms of Redis's clock, dead node, ... }
local P = KEYS[1]
local call = redis.call
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local node = ARGV[1]
local is_new = call('ZADD', P .. 'nodes', now, node)
local holder = call('GET', P .. 'lease')
local gap = -1
if ARGV[4] == '0' then
  if holder == node then
    call('DEL', P .. 'lease')
    call('SET', P .. 'held', now)
    for _, other in ipairs(call('ZRANGE', P .. 'nodes', 0, -1)) do
      if other ~= node then call('PUBLISH', P .. other, 'lease') end
    end
  end
  holder = false
elseif not holder then
  -- Since the last sign of who held it: he may have lived on for a moment, so this is rather too long than too short.
  gap = now - tonumber(call('GET', P .. 'held') or now)
  holder = node
end
if holder == node then
  call('SET', P .. 'lease', node, 'PX', ARGV[2])
  call('SET', P .. 'held', now)
end
local answer = { is_new, holder == node and 1 or 0, gap, now + tonumber(ARGV[2]) }
for _, dead in ipairs(call('ZRANGEBYSCORE', P .. 'nodes', '-inf', now - tonumber(ARGV[3]))) do
  answer[#answer + 1] = dead
end
return answer
