-- include seqs
-- include wake
-- Events for a tenant's backend: the outbox `hooks`, a stream of the site. The sender is app/webhooks.
-- A site whose configuration names no events has no `hook_events`, which costs one look in a run that could tell one.
local hook_types = nil

-- Whether the site's configuration names this type of event. Scripts ask before they gather what an event carries.
local function wants_event(type)
  if hook_types == nil then
    hook_types = {}
    for _, name in ipairs(call('SMEMBERS', P .. 'hook_events')) do hook_types[name] = true end
  end
  return hook_types[type] == true
end

-- The bounds of what the outbox and the posts of a site hold. Past either the oldest events of the outbox go, counted in
-- `hook_counts`; their seqs are missing for the receiver.
local MOST_HOOKS = 10000
local MOST_HOOK_BYTES = 16000000

-- Puts an event into the outbox, if the site wants its type. `at` is its time in ms; `user` the user room whose events
-- stay in order, '' for an event of several; `data` a JSON object without type, seq and at. An event of several users
-- names them in its `users`, a list of objects with a `user`. While the webhook is off (`hook_off`: its backend has
-- answered 410) the event is dropped, and takes a seq all the same. (Few functions: each run of a script creates all.)
local function emit(type, at, user, data)
  if not wants_event(type) then return end
  local counts, key = P .. 'hook_counts', P .. 'hooks'
  local seq = call('INCR', P .. 'hook_seq')
  if seq == 1 then
    -- Of the time, so that seqs grow on after Redis has lost its data.
    seq = tonumber(first_seq(tonumber(at)))
    call('SET', P .. 'hook_seq', string.format('%.0f', seq))
  end
  if call('EXISTS', P .. 'hook_off') == 1 then
    call('HINCRBY', counts, 'dropped', 1)
    return
  end
  call('XADD', key, '*', 'seq', string.format('%.0f', seq), 'type', type, 'at', string.format('%.0f', tonumber(at)),
    'user', user, 'data', data)
  local bytes, length = call('HINCRBY', counts, 'bytes', #data), call('XLEN', key)
  while length > 0 and (length > MOST_HOOKS or bytes > MOST_HOOK_BYTES) do
    local oldest = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    bytes = call('HINCRBY', counts, 'bytes', -#oldest[2][10])
    call('XDEL', key, oldest[1])
    call('HINCRBY', counts, 'dropped', 1)
    length = length - 1
  end
  wake('hook_lease')
end
