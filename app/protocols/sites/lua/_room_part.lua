-- include site
-- Looks at a part of the devices of a room. `found(user, since, is_connected, handle)` is called for each whose user is present:
-- it has a connected device, or its grace has not ended. Answers the next cursor; '0': it was the last part.
local function look_at_part(room, now, cursor, count, public_channel, found)
  local part = call('HSCAN', P .. 'room:' .. room, cursor, 'COUNT', count)
  for i = 1, #part[2], 2 do
    local user = call('HGET', P .. 'device:' .. part[2][i], 'user')
    local is_connected = string.byte(part[2][i + 1]) ~= 64 -- '@'
    local due = user and not is_connected and call('ZSCORE', P .. 'parting', user)
    if user and user ~= public_channel then
      local since = call('HGET', P .. 'present', user)
      if is_connected and not since then
        -- It has come while the site had no presence.
        since = string.format('%.0f', now)
        call('HSET', P .. 'present', user, since)
      end
      if since and (is_connected or (due and tonumber(due) > now)) then found(user, since, is_connected, part[2][i]) end
    end
  end
  return part[1]
end
