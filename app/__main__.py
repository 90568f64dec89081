"""`python -m app` is the command `recado`. The journal's writer, a process beside every server, needs a third of the
modules, and starts without the others."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["journal-writer"]:
        from app.commands.journal import journal_writer

        journal_writer(args=[])
    else:
        from app.cli import main

        main()
