-- include site
-- Whether `stored` counts bodies of this site: a site has it while it has a limit of them and bodies wait.
local counts_stored = nil

-- A body is about to be deleted: it does not count in `stored` any more, if it was counted there.
local function uncount_stored(key)
  if counts_stored == nil then counts_stored = call('EXISTS', P .. 'stored') == 1 end
  if not counts_stored then return end
  local held = call('HMGET', key, 'counted', 'size')
  if not held[1] then return end
  call('HINCRBY', P .. 'stored', 'bytes', -tonumber(held[2]))
  if call('HINCRBY', P .. 'stored', 'messages', -1) <= 0 then call('DEL', P .. 'stored') end
end

-- Counts a body in `stored`, and notes in the body that it is counted.
local function count_stored(seq, size)
  call('HSET', P .. 'body:' .. seq, 'counted', 1)
  call('HINCRBY', P .. 'stored', 'messages', 1)
  call('HINCRBY', P .. 'stored', 'bytes', size)
end
