"""The pages of the console, one module each: the page as a value, and the operations that the console itself has."""
