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
-- if journal
local function write_fate(...)
  if P == HIDDEN then return end
  call('XADD', P .. 'fate', 'MAXLEN', '~', JOURNAL_BACKLOG, '*', ...)
end
-- end if
