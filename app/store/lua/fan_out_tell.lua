-- include clock
-- include devices
-- include large
-- Tells nodes of a large message for a part of its devices; see _large.lua. Behind the last part the message is done.
-- KEYS[1] prefix
-- ARGV    now | message id | devices that are told already | at most so many
--         | address ..., where the states of the devices are; none of a message to many rooms
-- Answers { devices, times that a node was handed the message }; without devices it was the last part.
local seq = renew_large(ARGV[2], 'tell', clock(ARGV[1]))
if not seq then return { 0, 0 } end
local from = tonumber(ARGV[3])
local handles = call('LRANGE', P .. 'large:handles', from, from + tonumber(ARGV[4]) - 1)
if #handles == 0 then
  clear_large(seq)
  return { 0, 0 }
end

-- The states of now: a device that came back meanwhile has not read the message, or has it by its own connect.
local states = {}
for i = 5, #ARGV do
  for k, state in ipairs(call('HMGET', P .. ARGV[i], unpack(handles))) do states[k] = states[k] or state end
end

-- include tell_devices
local held = call('HMGET', P .. 'large', 'site', 'overflowed', 'withdrawn')
local body, options = unpack(call('HMGET', P .. 'body:' .. seq, 'data', 'opt'))
local has_lost = tonumber(held[2]) > 0
-- Options and a withdrawal take a message out of some queues. Without them it is in all, or its device has it already.
local is_partly_gone = options or held[3]
local per_state, to, over = {}, {}, {}
for k, handle in ipairs(handles) do
  local state = states[k] or state_of(handle)
  local list = per_state[state] or { {}, {} }
  per_state[state] = list
  if has_lost and call('HGET', P .. 'device:' .. handle, 'lost') == seq then
    list[2][#list[2] + 1] = handle
    over[#over + 1] = handle
  elseif not is_partly_gone or call('LINDEX', P .. 'queue:' .. handle, -1) == seq then
    list[1][#list[1] + 1] = handle
    to[#to + 1] = handle
  end
end
for state in pairs(per_state) do
  if not string.find(state, '^[^@]') then per_state[state] = nil end
end
-- if journal
write_more(seq, to, over, 1)
-- end if
call('HSET', P .. 'large', 'told', from + #handles)
tell_devices(per_state, held[1], seq, ARGV[2], body)
return { #handles, tells }
