-- include clock
-- include living
-- A node shows that it lives, and hears which nodes have stopped doing so. (Not of a site: no shared part, own keys.)
-- KEYS[1] recado:nodes
-- ARGV    node | ms after which a node counts as dead
-- Answers { 1 when this node was not known, node, its last beat in ms, ... }; a `~` before a node: see keys.py
local nodes, node = KEYS[1], ARGV[1]
local now = clock('')
-- First, since it needs no memory: a script whose first write needs none runs in a full Redis too.
redis.call('ZREM', nodes, '~' .. node)
local is_new = note_beat(nodes, node, now)
return append_dead({ is_new }, nodes, now, ARGV[2])
