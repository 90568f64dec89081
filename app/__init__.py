"""Recado: a multi-tenant push service. What an unacknowledged client missed is kept and replayed."""
