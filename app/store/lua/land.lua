-- include flights
-- include frees
-- Lands all messages in flight of a site: a reader of queues finds all of them there. See _flights.lua.
-- KEYS[1] prefix
-- Answers how many messages.
return call('EXISTS', P .. 'flights') == 1 and land_flights() or 0
