"""Notes of users."""
