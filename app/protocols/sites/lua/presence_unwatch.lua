-- include site
-- include unwatch
-- include frees
-- A node watches rooms no more.
-- KEYS[1] prefix
-- ARGV    node | room, lower case ...
for i = 2, #ARGV do unwatch(ARGV[1], ARGV[i]) end
return redis.status_reply('OK')
