-- include site
-- The site's last seq: live messages with a higher seq follow the answer of a script. The script and a send are never
-- interleaved, so no message falls between.
local function last_seq()
  return call('GET', P .. 'seq') or '0'
end

-- The next seq, the site's clock of messages. It starts at the milliseconds since 2020 times 16. So it grows on after
-- Redis has lost its data (up to 16,000 messages a second on average), and stays below 2^53 for JavaScript.
local function next_seq(now)
  local seq = call('INCR', P .. 'seq')
  if seq == 1 then
    seq = (now - 1577836800000) * 16 + 1
    call('SET', P .. 'seq', string.format('%.0f', seq))
  end
  return string.format('%.0f', seq)
end
