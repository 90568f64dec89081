"""The files of the messenger: uploads by tus 1.0, downloads, their storage and their rows."""
