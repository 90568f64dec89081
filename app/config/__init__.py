"""The configuration: the settings in the files and in the environment, as values."""
