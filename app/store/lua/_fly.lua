-- include site
-- Whether a message flies, and to whom: see _flights.lua. Included by the scripts that send.

-- Makes way for so many messages in flight to at most so many devices; `most` is how many a queue may hold in any case.
-- Answers whether they fly. Before a message that does not, all others land: it is behind them in the queues.
local function may_fly(wants, messages, devices, most)
  local count = call('HLEN', P .. 'flights')
  if count == 0 and not wants then return false end
  if count == 0 and messages <= most then return true end
-- include flights here
  most = math.min(most, MOST_FLIGHTS)
  local flies = wants and messages <= most and devices <= MOST_FLYING
  if count == 0 then return flies end
  if not flies then
    land_flights()
    return false
  end
  local flying = tonumber(call('GET', P .. 'flying') or 0)
  if count + messages <= most and flying + devices <= MOST_FLYING then return true end
  land_flights(function(_, landed)
    count = count - 1
    return count + 1 + messages > most or flying - landed + devices > MOST_FLYING
  end)
  return true
end

-- The devices whose messages go into their lists: a table that knows a handle. Of very many each is looked up.
local MOST_RESTING = 1000
local function resting_of_site()
  local count, resting = call('SCARD', P .. 'resting'), {}
  if count > MOST_RESTING then
    return setmetatable(resting, { __index = function(_, handle)
      return call('SMISMEMBER', P .. 'resting', handle)[1] == 1
    end })
  end
  for _, handle in ipairs(count > 0 and call('SMEMBERS', P .. 'resting') or {}) do resting[handle] = true end
  return resting
end

-- The form of a message in flight. `lines` holds a node, how many devices it has, and their handles, joined by ','.
local function form_of(lines, id, at, event, rooms, body)
  return table.concat(lines) .. '\n' .. table.concat({ id, at, #event, #rooms }, ' ') .. '\n' .. event .. rooms .. body
end
