-- include site
-- The last attempts of a site's webhook, newest first, as JSON.
local MOST_ATTEMPTS = 200
local function note_attempt(attempt)
  call('LPUSH', P .. 'hook_attempts', attempt)
  call('LTRIM', P .. 'hook_attempts', 0, MOST_ATTEMPTS - 1)
end
