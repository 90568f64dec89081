"""The life of one process: building, serving, draining, ending."""
