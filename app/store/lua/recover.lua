-- include large
-- include frees
-- Called when a node has connected again. Redis may have come back without its newest writes (an unsynced tail of the
-- append-only file, a replica that lagged). Then no seq may be given twice, and every loss must be told.
-- KEYS[1] prefix
-- ARGV    run id of this Redis | the highest seq that the calling node knows of
-- Answers how many devices get a _resync because messages are missing.

-- More than Redis can have lost at once, and a small part of the 2^53 that JavaScript counts exactly.
local JUMP = 1000000
local run = P .. 'run'
local known = tonumber(ARGV[2])
if call('HGET', run, 'id') ~= ARGV[1] then
  -- A message that was being fanned out when Redis ended does not take the seq that was meant for it.
  end_large()
  -- This is the first node to come back: all earlier seqs stay below the ones that are given from here on.
  call('HSET', run, 'id', ARGV[1], 'restored', last_seq())
  if last_seq() ~= '0' then call('INCRBY', P .. 'seq', JUMP) end
end
local restored = tonumber(call('HGET', run, 'restored'))
if known <= restored or known > restored + JUMP then return 0 end
-- A message that was answered with 200 is lost, and it is unknown which devices it was for.
for _, field in ipairs(call('HKEYS', P .. 'histories')) do
  if not string.find(field, '%.bytes$') then call('HSET', P .. 'histories', field, last_seq()) end
end
local marked, cursor = 0, '0'
repeat
  local part = call('HSCAN', P .. 'devices', cursor, 'COUNT', 1000)
  cursor = part[1]
  for i = 2, #part[2], 2 do
    call('HSET', P .. 'device:' .. part[2][i], 'lost', last_seq())
    marked = marked + 1
  end
until cursor == '0'
return marked
