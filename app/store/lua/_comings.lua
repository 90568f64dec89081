-- include presence
-- include inside
-- Tells of users that come and go: the webhook, and those who watch a room.

-- A device of the user has connected. `old` are the rooms of the user before where they differ, else nil.
local function note_coming(user, now, rooms, old)
  local told, room_presence = presence_of_site(), inside_of_site()
  if told then told.come(user, now) end
  if room_presence then room_presence.come(user, now, rooms, old) end
end

-- A device of the user has no connection any more, since `now`.
local function note_leaving(user, now)
  local told, room_presence = presence_of_site(), inside_of_site()
  if told then told.leave(user, now) end
  if room_presence then room_presence.leave(user, now) end
end

-- Nothing is known of the user any more, which was in these rooms.
local function note_forgetting(user, rooms)
  local room_presence = inside_of_site()
  if room_presence then room_presence.forget(user, rooms) end
end
