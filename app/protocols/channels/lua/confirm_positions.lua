-- include seqs
-- include tell
-- include frees
-- Records the positions of resumable subscribers and extends their time to live.
-- KEYS[1] prefix
-- ARGV    ms to live, 0 = for ever | node that gets the last seq, '' = none | site | head of the message to it
--         | then per subscriber: uuid | claim | seq
-- Answers the uuids that another connection holds, or that are forgotten.
local gone = {}
for i = 5, #ARGV, 3 do
  local key = P .. 'subscriber:' .. ARGV[i]
  if call('HGET', key, 'claim') == ARGV[i + 1] then
    call('HSET', key, 'seq', ARGV[i + 2])
    if ARGV[1] ~= '0' then call('PEXPIRE', key, ARGV[1]) else call('PERSIST', key) end
  else
    gone[#gone + 1] = ARGV[i]
  end
end
if ARGV[2] ~= '' then tell(ARGV[2], 'audience', ARGV[3], last_seq(), '0', ARGV[4], '', 'null') end
return gone
