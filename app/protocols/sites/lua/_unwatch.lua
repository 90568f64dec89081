-- include site
-- A node watches a room no more. With the last node everything goes that was kept for its watchers.
local function unwatch(node, room)
  local watch = P .. 'watch:' .. room
  call('HDEL', watch, 'n:' .. node)
  call('SREM', P .. 'watching:' .. node, room)
  for _, field in ipairs(call('HKEYS', watch)) do
    if string.sub(field, 1, 2) == 'n:' then return end
  end
  call('SREM', P .. 'watched', room)
  call('UNLINK', watch, P .. 'inside:' .. room, P .. 'watch_quiet:' .. room)
end
