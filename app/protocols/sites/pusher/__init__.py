"""Pusher's HTTP API: backends with the packages of Pusher send to sites."""
