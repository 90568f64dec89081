"""Recado: a multi-tenant push service. Messages that a client has not acknowledged are kept and replayed."""
