-- include seqs
-- The seq from which on no message is missing in a protocol's history. A history that has expired is empty, which is
-- complete for a reader that has heard its last message. Without any history it is complete only for the site's last
-- seq, that is if no message at all was published since.
local function complete_from(protocol)
  local marks = call('HMGET', P .. 'histories', protocol .. '.floor', protocol .. '.last')
  local is_gone = call('EXISTS', P .. 'history:' .. protocol) == 0
  return is_gone and tonumber(marks[2] or last_seq()) or tonumber(marks[1] or last_seq())
end
