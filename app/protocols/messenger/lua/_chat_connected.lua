-- include site
-- Whether a user (its number) has a connected device, on any node.
local function is_connected(user)
  for _, state in ipairs(call('HVALS', P .. 'user:user_' .. user)) do
    if string.byte(state) ~= 64 then return true end -- '@'
  end
  return false
end
