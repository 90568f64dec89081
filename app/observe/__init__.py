"""What operators see of the server: logs and figures. A leaf: imports nothing of the rest but settings and errors."""
