-- include clock
-- include room_part
-- Reads a part of the devices of a room whose users are present.
-- KEYS[1] prefix
-- ARGV    now | room, lower case | cursor of HSCAN, '0' at first | its COUNT | public channel, '' = none
-- Answers { next cursor, '0' behind the last part, then for each device: user, since when in ms, its handle, or '' when it is away }.
local answer = { '0' }
answer[1] = look_at_part(ARGV[2], clock(ARGV[1]), ARGV[3], ARGV[4], ARGV[5], function(user, since, is_connected, handle)
  for _, word in ipairs({ user, since, is_connected and handle or '' }) do answer[#answer + 1] = word end
end)
return answer
