-- Removes from a stream the entries that are in SQL, and answers the next ones. (Not for a site alone: a stream of the
-- nodes lies outside of any site.)
-- KEYS[1] the stream
-- ARGV    '' or the id before which everything is in SQL | the id to read behind | the id that counts as read
--         | entries at most | the bytes after which it ends
-- Answers { entries added to the stream so far ('' on a Redis that does not count them), its length, its last id,
-- how many of them have an id up to the one that counts as read, the entries }.

-- The entries of one XRANGE; the bytes are looked at in between.
local STEP = 50
local call = redis.call
local key = KEYS[1]
if call('EXISTS', key) == 0 then return { '0', 0, '0-0', 0, {} } end
if ARGV[1] ~= '' then call('XTRIM', key, 'MINID', ARGV[1]) end
local added, last = '', '0-0'
local facts = call('XINFO', 'STREAM', key)
for i = 1, #facts, 2 do
  if facts[i] == 'entries-added' then added = string.format('%.0f', facts[i + 1]) end
  if facts[i] == 'last-generated-id' then last = facts[i + 1] end
end
local known = 0
if ARGV[2] ~= ARGV[3] then known = #call('XRANGE', key, '-', ARGV[3], 'COUNT', 20000) end
local entries, bytes, after, most = {}, 0, ARGV[2], tonumber(ARGV[4])
while #entries < most and bytes < tonumber(ARGV[5]) do
  local part = call('XRANGE', key, '(' .. after, '+', 'COUNT', math.min(STEP, most - #entries))
  for _, entry in ipairs(part) do
    entries[#entries + 1] = entry
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
    after = entry[1]
  end
  if #part < STEP then break end
end
return { added, call('XLEN', key), last, known, entries }
