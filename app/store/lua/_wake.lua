-- include mode
-- include site
-- Wakes the node that holds a lease of the site, once a run: something waits for it. A message without a counter: its loss
-- costs a second.
local woken = {}
local function wake(lease)
  if woken[lease] then return end
  woken[lease] = true
  local node = call('GET', P .. lease)
  if not node then return end
  local text = 'hooks\n' .. string.sub(P, 9, -3)
  if IS_SHARDED then
    call('SPUBLISH', P .. 'bus:' .. node, text)
  else
    call('PUBLISH', 'recado:bus:' .. node, text)
  end
end
