"""`python -m app` is the command `recado`. The journal's writer, a process beside every server, needs a third of the
modules, and starts without the others. The garbage collector rests while modules load: it finds nothing there."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()
    if sys.argv[1:] == ["journal-writer"]:
        from app.commands.journal import journal_writer

        gc.enable()
        journal_writer(args=[])
    else:
        from app.cli import main

        gc.enable()
        main()
