-- Included last by a script that frees memory, unless its own first write needs none: it must run in a full Redis too.
-- Redis refuses the first write of a script when that write may need memory. After a write that needs none it lets every
-- write pass.
call('UNLINK', P .. 'nothing')
