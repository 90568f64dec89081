-- include mode
-- Tries each command that Recado needs on a key that nobody uses. (Not for a site: it has its own key.)
-- Answers the commands that this login, or this server, does not have. Other errors do not count: the script may run on
-- a server of a Cluster that does not hold the key, or whose memory is full.
local key = 'recado:rights'
local TRIED = {
  { 'DEL', key }, { 'UNLINK', key }, { 'EXISTS', key }, { 'TYPE', key }, { 'EXPIRE', key, '1' },
  { 'PEXPIRE', key, '1' }, { 'PERSIST', key }, { 'PTTL', key }, { 'TTL', key }, { 'GET', key }, { 'SET', key, '', 'PX', '1000' },
  { 'DEL', key }, { 'INCR', key }, { 'INCRBY', key, '1' },
  { 'DEL', key }, { 'HSET', key, 'f', '1' }, { 'HSETNX', key, 'f', '1' }, { 'HGET', key, 'f' }, { 'HMGET', key, 'f' },
  { 'HGETALL', key }, { 'HKEYS', key }, { 'HVALS', key }, { 'HLEN', key }, { 'HEXISTS', key, 'f' }, { 'HINCRBY', key, 'f', '1' },
  { 'HSCAN', key, '0' }, { 'HRANDFIELD', key, '1' }, { 'HDEL', key, 'f' },
  { 'DEL', key }, { 'RPUSH', key, 'v' }, { 'LPUSH', key, 'v' }, { 'LRANGE', key, '0', '0' }, { 'LINDEX', key, '0' },
  { 'LLEN', key }, { 'LPOS', key, 'v' }, { 'LTRIM', key, '0', '0' }, { 'LREM', key, '1', 'v' }, { 'RPOP', key },
  { 'DEL', key }, { 'SADD', key, 'm' }, { 'SMEMBERS', key }, { 'SCARD', key }, { 'SMISMEMBER', key, 'm' }, { 'SRANDMEMBER', key, '1' },
  { 'SREM', key, 'm' }, { 'SPOP', key, '1' },
  { 'DEL', key }, { 'ZADD', key, '1', 'm' }, { 'ZSCORE', key, 'm' }, { 'ZCARD', key }, { 'ZRANGE', key, '0', '0' },
  { 'ZRANGEBYSCORE', key, '1', '1' }, { 'ZRANGEBYLEX', key, '-', '+' }, { 'ZREM', key, 'm' }, { 'ZREMRANGEBYSCORE', key, '1', '1' },
  { 'DEL', key }, { 'XADD', key, '1-0', 'f', 'v' }, { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XDEL', key, '1-0' },
  { 'XTRIM', key, 'MINID', '1-0' }, { 'XINFO', 'STREAM', key },
  { 'DEL', key }, { 'TIME' }, { IS_SHARDED and 'SPUBLISH' or 'PUBLISH', key, '' },
}
local refused, seen = {}, {}
for _, words in ipairs(TRIED) do
  local answer = redis.pcall(unpack(words))
  local error = type(answer) == 'table' and answer.err or ''
  local is_refused = string.find(error, 'NOPERM') or string.find(error, 'ACL failure') or string.find(error, 'this command')
  if (is_refused or string.find(error, 'Unknown')) and not seen[words[1]] then
    seen[words[1]] = true
    refused[#refused + 1] = words[1]
  end
end
return refused
