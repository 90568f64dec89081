-- include wake
-- Wakes the node whose relay works: the outbox of the site has rows.
-- KEYS[1] prefix
wake('chat_lease')
