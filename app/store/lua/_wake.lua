-- include mode
-- include site
-- Wakes the node that sends the events of the site, once a run. A message without a counter: its loss costs a second.
local has_woken = false
local function wake_sender()
  if has_woken then return end
  has_woken = true
  local node = call('GET', P .. 'hook_lease')
  if not node then return end
  local text = 'hooks\n' .. string.sub(P, 9, -3)
  if IS_SHARDED then
    call('SPUBLISH', P .. 'bus:' .. node, text)
  else
    call('PUBLISH', 'recado:bus:' .. node, text)
  end
end
