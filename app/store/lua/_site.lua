-- Included by every script of a site. KEYS[1] is the site's key prefix, 'recado:{site}:'; every key of a script begins
-- with it, so a script stays on the one Cluster slot of its site. The keys are listed in store/keys.py.
local P = KEYS[1]
local call = redis.call
