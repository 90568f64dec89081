"""Commands of `recado` by subject. `app/cli.py` has the others, and lists them all."""
