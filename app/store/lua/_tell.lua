-- include mode
-- include site
-- How many messages this run has handed to nodes.
local tells = 0

-- Hands one message to a node. The counter is for one site and node: a jump tells the node that a message was lost.
-- In a Cluster (IS_SHARDED) the node hears on a channel of the site's slot, because PUBLISH would go to every server.
local function tell(node, kind, site, ...)
  local counter = call('HINCRBY', P .. 'bus', node, 1)
  tells = tells + 1
  local text = table.concat({ kind, site, counter, ... }, '\n')
  if IS_SHARDED then
    call('SPUBLISH', P .. 'bus:' .. node, text)
  else
    call('PUBLISH', 'recado:bus:' .. node, text)
  end
end
