-- include tell
-- Has every node read the queues of its devices, as after messages that it has not heard.
local function show_gap(site, seq)
  for _, node in ipairs(call('HKEYS', P .. 'bus')) do
    -- Two messages for nobody, and a counter that is left out between them: also a node that has heard nothing before
    -- sees the gap.
    tell(node, 'message', site, seq, '0', '', '', 'null')
    call('HINCRBY', P .. 'bus', node, 1)
    tell(node, 'message', site, seq, '0', '', '', 'null')
  end
end
