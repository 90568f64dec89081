-- include site
-- '1' when any node listens to one of these names of a protocol, else '0'.
local function audience_is_there(protocol, ...)
  for _, name in ipairs({ ... }) do
    if call('EXISTS', P .. 'audience:' .. protocol .. ':' .. name) == 1 then return '1' end
  end
  return '0'
end
