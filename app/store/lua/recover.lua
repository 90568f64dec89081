-- include clock
-- include gap
-- include large
-- include lost
-- include frees
-- Called when a node has connected again. Redis may have come back without its newest writes (an unsynced tail of the
-- append-only file, a replica that lagged). Then no seq may be given twice, and every loss must be told.
-- KEYS[1] prefix
-- ARGV    now | run id of this Redis | the highest seq that the calling node knows of | site | cursor of HSCAN, '0' at first
--         | its COUNT
-- Answers { devices of this part that get a _resync because messages are missing, the next cursor }; '0': it was the last.

-- More than Redis can have lost at once, and a small part of the 2^53 that JavaScript counts exactly.
local JUMP = 1000000
local run = P .. 'run'
local known = tonumber(ARGV[3])
if call('HGET', run, 'id') ~= ARGV[2] then
  -- A message that was being fanned out when Redis ended does not take the seq that was meant for it.
  end_large()
  -- This is the first node to come back: all earlier seqs stay below the ones that are given from here on.
  local restored = last_seq()
  local jumped = restored == '0' and first_seq(clock(ARGV[1])) or string.format('%.0f', tonumber(restored) + JUMP)
  call('SET', P .. 'seq', jumped)
  if call('EXISTS', P .. 'hook_seq') == 1 then call('INCRBY', P .. 'hook_seq', JUMP) end
  call('HSET', run, 'id', ARGV[2], 'restored', restored, 'jumped', jumped)
  -- if journal
    write_fate('k', 'lost', 'from', restored, 'to', jumped, 'at', string.format('%.0f', clock(ARGV[1])))
  -- end if
end
local marks = call('HMGET', run, 'restored', 'jumped')
if known <= tonumber(marks[1]) or known > tonumber(marks[2] or 0) then return { 0, '0' } end
-- A message that was answered with 200 is lost, and it is unknown which devices it was for.
local last = last_seq()
for _, field in ipairs(ARGV[5] == '0' and call('HKEYS', P .. 'histories') or {}) do
  if not string.find(field, '%.bytes$') then call('HSET', P .. 'histories', field, last) end
end
local part = call('HSCAN', P .. 'devices', ARGV[5], 'COUNT', ARGV[6])
for i = 2, #part[2], 2 do
  note_loss(part[2][i], 'redis lost data')
  call('HSET', P .. 'device:' .. part[2][i], 'lost', last)
end
-- Other nodes may have read their queues before this.
if part[1] == '0' then show_gap(ARGV[4], last) end
return { #part[2] / 2, part[1] }
