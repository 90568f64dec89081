-- include clock
-- include site
-- Samples the queues of a bounded random choice of the site's devices. Changes nothing.
-- KEYS[1] prefix
-- ARGV    now | most devices
-- Answers { devices of the site, devices in the sample, messages in their queues, messages in the longest queue, age of
--           the oldest message in ms }
local now = clock(ARGV[1])
local picked = call('HRANDFIELD', P .. 'devices', tonumber(ARGV[2]), 'WITHVALUES')
local messages, longest, age = 0, 0, 0
for i = 2, #picked, 2 do
  local key = P .. 'queue:' .. picked[i]
  local length = call('LLEN', key)
  if length > 0 then
    messages = messages + length
    longest = math.max(longest, length)
    local at = call('HGET', P .. 'body:' .. call('LINDEX', key, 0), 'at')
    if at then age = math.max(age, now - tonumber(at)) end
  end
end
return { call('HLEN', P .. 'devices'), #picked / 2, messages, longest, age }
