"""The directory of a messenger as operators see and change it, over the console and its API."""
