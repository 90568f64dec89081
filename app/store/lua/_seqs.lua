-- include site
-- The site's last seq: live messages with a higher seq follow the answer of a script. The script and a send are never
-- interleaved, so no message falls between.
local function last_seq()
  return call('GET', P .. 'seq') or '0'
end

-- The first seq of a site: the milliseconds since 2020 times 16. So seqs grow on after Redis has lost its data (up to
-- 16,000 messages a second on average), and stay below 2^53 for JavaScript.
local function first_seq(now)
  return string.format('%.0f', (now - 1577836800000) * 16 + 1)
end

-- The next seq, the site's clock of messages.
local function next_seq(now)
  local seq = call('INCR', P .. 'seq')
  if seq > 1 then return string.format('%.0f', seq) end
  call('SET', P .. 'seq', first_seq(now))
  return first_seq(now)
end
