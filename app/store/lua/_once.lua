-- include site
-- Idempotency: a request with a key is answered once. `words` is '' without a key, or
-- '<digest of the key> <digest of the request> <ms for which the answer is kept>'; `once:<digest of the key>` holds
-- '<digest of the request> <message id> <recipients> <seq>'.

-- The answer of an earlier request with the key: { 'again', message id, recipients, seq }, or { 'other' } when that was another
-- request; nil when there was none.
local function earlier_answer(words)
  if words == '' then return nil end
  local key, request = string.match(words, '^(%x+) (%x+)')
  local held = call('GET', P .. 'once:' .. key)
  if not held then return nil end
  -- (An earlier version has kept no seq.)
  local earlier, id, recipients, seq = string.match(held, '^(%x+) (%d+) (%d+) ?(%d*)$')
  if earlier ~= request then return { 'other' } end
  return { 'again', id, tonumber(recipients), seq }
end

local function remember_answer(words, id, recipients, seq)
  if words == '' then return end
  local key, request, ms = string.match(words, '^(%x+) (%x+) (%d+)$')
  call('SET', P .. 'once:' .. key, request .. ' ' .. id .. ' ' .. recipients .. ' ' .. seq, 'PX', ms)
end
