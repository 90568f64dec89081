"""The settings of the files and the environment, as values."""
