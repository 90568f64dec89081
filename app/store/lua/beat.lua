-- include living
-- A node shows that it lives, and hears which nodes have stopped doing so. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:nodes
-- ARGV    node | ms after which a node counts as dead
-- Answers { 1 when this node was not known, node, its last beat in ms, ... }; a `~` before a node: see keys.py
local nodes, node = KEYS[1], ARGV[1]
local now = clock('')
local is_new = note_beat(nodes, node, now)
redis.call('ZREM', nodes, '~' .. node)
return append_dead({ is_new }, nodes, now, ARGV[2])
