-- include fates
-- if journal
-- Writes the devices of a message into the journal, from the place `first` of the lists on: those that have it in their
-- queue, and those whose queue ran over with it. An entry has 1,000 of each.
local function write_more(seq, to, over, first)
  for i = first, math.max(#to, #over), 1000 do
    write_fate('k', 'more', 'seq', seq, 'to', table.concat(to, ',', i, math.min(i + 999, #to)),
      'over', table.concat(over, ',', i, math.min(i + 999, #over)))
  end
end
-- end if
