"""What the files and the environment say, as values."""
