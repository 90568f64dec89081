-- include clock
-- include wake
-- include frees
-- Turns a webhook on again, and has posts sent at once: one, or all that were parked since a time.
-- KEYS[1] prefix
-- ARGV    now | post, '' = all parked ones | parked since, in ms | most posts
-- Answers how many posts.
local now = clock(ARGV[1])
call('DEL', P .. 'hook_off')
local posts = ARGV[2] ~= '' and { ARGV[2] }
  or call('ZRANGEBYSCORE', P .. 'hook_parked', ARGV[3], '+inf', 'LIMIT', 0, tonumber(ARGV[4]))
local count = 0
for _, post in ipairs(posts) do
  local was_parked = call('ZREM', P .. 'hook_parked', post) == 1
  if was_parked or call('ZSCORE', P .. 'hook_posts', post) then
    -- Its bytes go on counting as those of parked posts: a replay of many must not drop new events.
    if was_parked then call('HSET', P .. 'hook_post:' .. post, 'replayed', 1) end
    call('HSET', P .. 'hook_post:' .. post, 'tries', 0)
    call('ZADD', P .. 'hook_posts', now, post)
    count = count + 1
  end
end
wake('hook_lease')
return count
