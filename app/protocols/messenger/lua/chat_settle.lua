-- include site
-- Forgets idempotency keys: the rows of the outbox that had them are gone, so that no relay repeats them.
-- KEYS[1] prefix
-- ARGV    key ...
for _, key in ipairs(ARGV) do call('UNLINK', P .. 'once:' .. key) end
return #ARGV
