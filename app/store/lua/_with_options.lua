-- Included last. The functions of options, made when the first message with options asks for them: every run of a script
-- makes all its functions, and most messages have no options.
local function load_options()
-- include options here
  return {
    may_watch = may_watch,
    replace_older = replace_older,
    forget_newest = forget_newest,
    keep_recipients = keep_recipients,
    keep_deadlines = keep_deadlines,
  }
end
