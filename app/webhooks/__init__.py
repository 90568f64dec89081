"""Events to tenants' backends: which of them go together, signing, attempts, retries, and the door to all that."""
