-- include clock
-- include devices
-- include large
-- Tells nodes of a large message for a part of its devices; see _large.lua. Behind the last part the message is done.
-- KEYS[1] prefix
-- ARGV    now | message id | devices that are told already | at most so many
-- Answers { devices, times that a node was handed the message }; without devices it was the last part.
local seq = renew_large(ARGV[2], 'tell', clock(ARGV[1]))
if not seq then return { 0, 0 } end
local from = tonumber(ARGV[3])
local handles = call('LRANGE', P .. 'large:handles', from, from + tonumber(ARGV[4]) - 1)
if #handles == 0 then
  clear_large(seq)
  return { 0, 0 }
end

-- include tell_devices
local per_state, to, over = {}, {}, {}
for _, handle in ipairs(handles) do
  -- Of now: a device that came back meanwhile has not read the message, or has it by its own connect.
  local state = state_of(handle)
  local list = per_state[state] or { {}, {} }
  per_state[state] = list
  if call('LINDEX', P .. 'queue:' .. handle, -1) == seq then
    list[1][#list[1] + 1] = handle
    to[#to + 1] = handle
  elseif call('HGET', P .. 'device:' .. handle, 'lost') == seq then
    list[2][#list[2] + 1] = handle
    over[#over + 1] = handle
  end
end
per_state[''] = nil
-- if journal
write_more(seq, to, over, 1)
-- end if
call('HSET', P .. 'large', 'told', from + #handles)
local body = call('HGET', P .. 'body:' .. seq, 'data')
tell_devices(per_state, call('HGET', P .. 'large', 'site'), seq, ARGV[2], body)
return { #handles, tells }
