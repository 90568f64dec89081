-- include site
-- include frees
-- Tells scripts of which events the site's webhook wants to hear. The set expires unless beats renew it, so that a site
-- whose webhook is gone from the configuration pays nothing any more.
-- KEYS[1] prefix
-- ARGV    ms without any device after which a user is offline | ms until the set expires | type ...
-- Answers 1 when there was no set: users may have left meanwhile (see hooks_reconcile.lua), else 0.
local key = P .. 'hook_events'
local is_new = call('EXISTS', key) == 0 and 1 or 0
call('DEL', key)
call('SADD', key, unpack(ARGV, 3))
call('PEXPIRE', key, ARGV[2])
call('SET', P .. 'hook_grace', ARGV[1])
return is_new
