"""The versions of the journal's tables, each the follower of another."""
