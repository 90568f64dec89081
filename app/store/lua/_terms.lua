-- include stored
-- Whether a site may not store a message of this size, because it would hold more than so many bodies or bytes of them
-- (0 = any). Answers nil, or the answer for the caller of the script.
local function quota_refusal_of(size, most_messages, most_bytes)
  if most_messages == 0 and most_bytes == 0 then return nil end
  counts_stored = true
  local held = call('HMGET', P .. 'stored', 'messages', 'bytes')
  if most_messages > 0 and tonumber(held[1] or 0) + 1 > most_messages then return { '', 0, 'stored_messages' } end
  if most_bytes > 0 and tonumber(held[2] or 0) + size > most_bytes then return { '', 0, 'stored_bytes' } end
  return nil
end

-- Whether a send of this size is refused. `terms` is its deadline in ms of Redis's clock, '' = none; for a site with a
-- limit ',<sends a second, 0 = any>,<sends at once>,<most stored messages>,<most stored bytes>,<sends that it counts
-- for>' follows. Answers nil, or
-- the answer for the caller of the script: an error, or { '', ms until the rate allows the send }, or { '', 0, the limit
-- that is reached }.
local function refusal_of(terms, now, size)
  if terms == '' then return nil end
  local deadline, rate, burst, messages, bytes, weight = tonumber(terms), nil, nil, nil, nil, nil
  if not deadline then
    deadline, rate, burst, messages, bytes, weight = string.match(terms, '^(%d*),([^,]+),([^,]+),(%d+),(%d+),(%d+)$')
    deadline, rate, burst, weight = tonumber(deadline), tonumber(rate), tonumber(burst), tonumber(weight)
  end
  if deadline and now > deadline then return redis.error_reply('LATE the caller has stopped waiting') end
  if not rate then return nil end
  local refusal = quota_refusal_of(size, tonumber(messages), tonumber(bytes))
  if refusal then return refusal end
  if rate == 0 or weight == 0 then return nil end
  -- One number is kept: the time when all sends so far would have been made at the rate, without a burst.
  local pause = 1000 / rate
  local due = tonumber(call('GET', P .. 'due') or 0)
  -- A time later than possible: the clock went back, or the limit was changed.
  if due < now or due > now + pause * burst then due = now end
  local early = due - now - pause * (burst - weight)
  if early > 0 then return { '', math.ceil(early) } end
  call('SET', P .. 'due', string.format('%.3f', due + pause * weight), 'PX', math.ceil(due + pause * weight - now))
  return nil
end
