-- include fates
-- Keeps an attempt of a site's webhook, as JSON: the newest first, and its row (a list of one) for the journal.
local MOST_ATTEMPTS = 200
local function note_attempt(attempt, rows)
  call('LPUSH', P .. 'hook_attempts', attempt)
  call('LTRIM', P .. 'hook_attempts', 0, MOST_ATTEMPTS - 1)
  -- if journal
  write_fate('k', 'rows', 'table', 'webhook_attempts', 'rows', rows)
  -- end if
end
