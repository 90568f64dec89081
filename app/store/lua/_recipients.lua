-- include fates
-- Writes the devices of a message into the journal, from the place `first` of the lists on: those that have it in their
-- queue, and those whose queue ran over with it.
local function write_more(seq, to, over, first)
  for i = first, math.max(#to, #over), FATE_PART do
    local last = i + FATE_PART - 1
    write_fate('k', 'more', 'seq', seq, 'to', table.concat(to, ',', i, math.min(last, #to)),
      'over', table.concat(over, ',', i, math.min(last, #over)))
  end
end
