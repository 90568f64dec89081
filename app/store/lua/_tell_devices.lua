-- include tell
-- Tells nodes of a message for their devices. `per_state` holds, for each state 'node,node', two lists of handles: of
-- devices whose queue has the message, and of devices whose queue it has dropped.
local function tell_devices(per_state, site, seq, id, body)
  -- A device that is connected to several nodes is in the list of each.
  local per_node = {}
  for state, list in pairs(per_state) do
    for node in string.gmatch(state, '[^,]+') do
      local mine = per_node[node]
      if not mine then
        per_node[node] = list
      else
        local merged = { {}, {} }
        for k = 1, 2 do
          for _, handle in ipairs(mine[k]) do merged[k][#merged[k] + 1] = handle end
          for _, handle in ipairs(list[k]) do merged[k][#merged[k] + 1] = handle end
        end
        per_node[node] = merged
      end
    end
  end
  for node, list in pairs(per_node) do
    tell(node, 'message', site, seq, id, table.concat(list[1], ','), table.concat(list[2], ','), body)
  end
end
