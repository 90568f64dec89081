-- include tell
-- Tells nodes of a message for their devices. `per_state` holds, for each state 'node,node', two lists of handles: of
-- devices whose queue has the message, and of devices whose queue it has dropped; and `flown`, the handles, joined by ',',
-- to which it is in flight. A node hears of these first, in this order: see _flights.lua.
local function tell_devices(per_state, site, seq, id, body)
  -- A device that is connected to several nodes is in the list of each.
  local per_node = {}
  for state, list in pairs(per_state) do
    for node in string.gmatch(state, '[^,]+') do
      local mine = per_node[node] or { {}, {} }
      per_node[node] = mine
      for k = 1, 2 do
        if #list[k] > 0 then mine[k][#mine[k] + 1] = table.concat(list[k], ',') end
      end
      if list.flown then table.insert(mine[1], 1, list.flown) end
    end
  end
  for node, texts in pairs(per_node) do
    tell(node, 'message', site, seq, id, table.concat(texts[1], ','), table.concat(texts[2], ','), body)
  end
end
