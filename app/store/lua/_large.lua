-- include seqs
-- include bodies
-- include gap
-- include recipients
-- A message to very many devices is stored in parts, by several runs that its node gives one after the other. While that
-- lasts the site's other sends wait, so its seq is the next one: queues hold it, but nobody reads an entry above the site's
-- last seq. One short run then makes it the last seq, and with that the message is accepted for all devices at once.
-- `large` holds id, site, seq, until (the lease in ms), phase: 'store' before that run, 'tell' behind it; stored, overflowed,
-- told: of how many devices the nodes know; once, waiter, keeps: ARGV[14] to ARGV[16] of send.lua;
-- but: the handle of the device that does not get it; withdrawn: set when its sender takes it out of queues.
-- `large:handles` lists the devices. When the lease runs out its node has died, and any run may end the message.
local LARGE_LEASE_MS = 3000

local function clear_large(seq)
  -- The reference of the message itself.
  release(seq, 1)
  call('UNLINK', P .. 'large', P .. 'large:handles')
end

-- if journal
-- Writes the rest of the devices of an accepted message into the journal, from a place in `large:handles` on.
local function write_rest(seq, from)
  while true do
    local handles = call('LRANGE', P .. 'large:handles', from, from + 999)
    if #handles == 0 then return end
    local to, over = {}, {}
    for _, handle in ipairs(handles) do
      local is_lost = call('HGET', P .. 'device:' .. handle, 'lost') == seq
      table.insert(is_lost and over or to, handle)
    end
    write_more(seq, to, over, 1)
    from = from + #handles
  end
end
-- end if

-- Ends a message whose node does not go on. One that is not accepted loses its body: its seq is used up, and a device whose
-- queue holds an entry without a body gets _resync. One that is accepted is in all queues: nodes read them after a gap.
local function end_large()
  local held = call('HMGET', P .. 'large', 'seq', 'phase', 'site', 'told')
  if not held[1] then return end
  call('UNLINK', P .. 'nothing')
  if held[2] == 'store' then
    -- All of its references: queues hold entries of it, but no body.
    release(held[1], 1e9)
    call('UNLINK', P .. 'pending:' .. held[1])
    if tonumber(last_seq()) < tonumber(held[1]) then call('SET', P .. 'seq', held[1]) end
    call('UNLINK', P .. 'large', P .. 'large:handles')
    return
  end
  -- if journal
  write_rest(held[1], tonumber(held[4] or 0))
  -- end if
  show_gap(held[3], held[1])
  clear_large(held[1])
end

-- Whether a message is being fanned out, so that no other may be sent.
local function is_held_up(now)
  local deadline = call('HGET', P .. 'large', 'until')
  if not deadline then return false end
  if now <= tonumber(deadline) then return true end
  end_large()
  return false
end

-- Begins to fan out a message. Answers its seq.
local function begin_large(id, site, now)
  local last = last_seq()
  local seq = last == '0' and first_seq(now) or string.format('%.0f', tonumber(last) + 1)
  call('HSET', P .. 'large', 'id', id, 'site', site, 'seq', seq, 'until', now + LARGE_LEASE_MS, 'phase', 'store',
    'stored', 0, 'overflowed', 0)
  return seq
end

-- Renews the lease of a message in this phase. Answers its seq, or nil when another run has ended it.
local function renew_large(id, phase, now)
  local held = call('HMGET', P .. 'large', 'id', 'phase', 'seq')
  if held[1] ~= id or held[2] ~= phase then return nil end
  call('HSET', P .. 'large', 'until', now + LARGE_LEASE_MS)
  return held[3]
end
