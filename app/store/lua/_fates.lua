-- include mode
-- include site
-- The stream `fate`: what happened to messages, for the journal. One entry a run, or a queue that is dropped, never one a
-- delivery. The first field is the kind, `k`; lists of handles are joined by ',', times are in ms:
--   send     seq, id, at, event, size, rooms (JSON), opt (JSON or ''), to (handles that have it in their queue), over (handles
--            whose queue ran over with it), body where the site keeps bodies
--   more     seq, to, over: further devices of a message
--   plain    seq, id, at, event, size, rooms, nodes, body: a message of a site without queues
--   ack      a: lines '<one or batch> <seq> <written ms or 0> <acked ms> <handles>'
--   written  w: lines '<seq> <written ms> <handles>', of messages that wait for their acks
--   fate     state, reason, at, d: lines '<seq> <handles>', which have left their queues without an ack
--   lost     from, to, at: the deliveries between these seqs are lost where they are not over
--   device   handle, user, device, at
--   rows     table, rows (JSON): what nodes tell
local function write_fate(...)
  call('XADD', P .. 'fate', 'MAXLEN', '~', JOURNAL_BACKLOG, '*', ...)
end

local function write_left(state, reason, lines)
  local time = call('TIME')
  local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  write_fate('k', 'fate', 'state', state, 'reason', reason, 'at', at, 'd', lines)
end

-- Messages or handles of one entry.
local FATE_PART = 1000

-- Writes that these messages have left the queue of a device without an ack.
local function write_dropped(handle, seqs, state, reason)
  if JOURNAL_BACKLOG == 0 then return end
  for i = 1, #seqs, FATE_PART do
    local lines = table.concat(seqs, ' ' .. handle .. '\n', i, math.min(i + FATE_PART - 1, #seqs))
    write_left(state, reason, lines .. ' ' .. handle)
  end
end

-- Writes that a message has left the queues of these devices without an ack.
local function write_taken(seq, handles, state, reason)
  if JOURNAL_BACKLOG == 0 then return end
  for i = 1, #handles, FATE_PART do
    write_left(state, reason, seq .. ' ' .. table.concat(handles, ',', i, math.min(i + FATE_PART - 1, #handles)))
  end
end
