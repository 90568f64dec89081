"""Logs and figures for operators. A leaf: imports nothing of the rest but settings and errors."""
