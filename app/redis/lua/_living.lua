-- Beats of nodes in `nodes`, a sorted set of nodes by their last beat in ms. The Python side is app/redis/beat.py.

-- Notes that a node lives. Answers 1 when it was not known, else 0.
local function note_beat(nodes, node, now) return redis.call('ZADD', nodes, now, node) end

-- Appends to a script's answer each node without a beat for `silence_ms`, followed by its last beat in ms.
local function append_dead(answer, nodes, now, silence_ms)
  local dead = redis.call('ZRANGEBYSCORE', nodes, '-inf', now - tonumber(silence_ms), 'WITHSCORES')
  for _, word in ipairs(dead) do answer[#answer + 1] = word end
  return answer
end
