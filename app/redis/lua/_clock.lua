-- Milliseconds since the epoch: `given` when the caller moves the clock (tests), else Redis's own clock, so that all
-- nodes count on one clock.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
