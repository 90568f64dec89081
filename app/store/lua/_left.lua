-- include mode
-- include site
-- if journal
-- Writes that messages have left queues without an ack: several of one device, or one of several devices. `handles` or
-- `seqs` has one member. An entry has 1,000 of the others.
local function write_left(state, reason, seqs, handles)
  if P == HIDDEN then return end
  local time = call('TIME')
  local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  for i = 1, #handles == 1 and #seqs or #handles, 1000 do
    local lines = nil
    if #handles == 1 then
      lines = table.concat(seqs, ' ' .. handles[1] .. '\n', i, math.min(i + 999, #seqs)) .. ' ' .. handles[1]
    else
      lines = seqs[1] .. ' ' .. table.concat(handles, ',', i, math.min(i + 999, #handles))
    end
    call('XADD', P .. 'fate', 'MAXLEN', '~', JOURNAL_BACKLOG, '*', 'k', 'fate', 'state', state, 'reason', reason,
      'at', at, 'd', lines)
  end
end
-- end if
