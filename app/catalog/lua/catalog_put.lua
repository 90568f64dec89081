-- Writes rows of stored sites, each unless the copy has a later version of it. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:catalog:{all}:
-- ARGV    the version that the copy has to have | site | version | its row as JSON, "" when the site is gone | ...
-- Answers 1; or 0 when the copy lacks earlier changes: its own version stays, by which a node finds that out.
local P = KEYS[1]
local before = tonumber(redis.call('HGET', P .. 'marks', 'version') or 0)
local newest, is_whole = before, before >= tonumber(ARGV[1])
for i = 2, #ARGV, 3 do
  local site, version, row = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  if version >= tonumber(redis.call('ZSCORE', P .. 'versions', site) or 0) then
    if row == '' then
      redis.call('ZREM', P .. 'versions', site)
      redis.call('HDEL', P .. 'sites', site)
    else
      redis.call('HSET', P .. 'sites', site, row)
      redis.call('ZADD', P .. 'versions', ARGV[i + 1], site)
    end
  end
  newest = math.max(newest, version)
end
if is_whole then redis.call('HSET', P .. 'marks', 'version', string.format('%.0f', newest)) end
return is_whole and 1 or 0
