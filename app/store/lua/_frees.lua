-- Included after `shared` or `mailbox` by a script that frees memory: it must run in a full Redis too. Redis refuses the
-- first write of a script when that write may need memory. After a write that needs none it lets every write pass.
call('UNLINK', P .. 'nothing')
