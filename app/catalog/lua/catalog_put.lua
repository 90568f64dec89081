-- Writes rows of stored sites, each unless the copy has a later version of it. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:catalog:{all}:
-- ARGV    site | version | its row as JSON, "" when the site is gone | ...
-- Answers { the newest version of the copy }
local P = KEYS[1]
local newest = tonumber(redis.call('HGET', P .. 'marks', 'version') or 0)
for i = 1, #ARGV, 3 do
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
redis.call('HSET', P .. 'marks', 'version', string.format('%.0f', newest))
return { string.format('%.0f', newest) }
