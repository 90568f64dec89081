-- include shared
-- Notes how far resumable subscribers are, and lets them live on.
-- KEYS[1] prefix
-- ARGV    ms to live, 0 = for ever | node to be told the last seq, '' = none | site | head of what it is told
--         | then per subscriber: uuid | claim | seq
-- Answers the uuids that another connection has, or nobody.
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
