"""`python -m app` is the command `recado`."""

from app.cli import main

if __name__ == "__main__":
    main()
