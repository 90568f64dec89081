-- include site
-- A message of this size has left a queue whose bytes may be counted.
local function uncount_bytes(handle, size)
  if call('HEXISTS', P .. 'bytes', handle) == 1 and call('HINCRBY', P .. 'bytes', handle, -size) <= 0 then
    call('HDEL', P .. 'bytes', handle)
  end
end
