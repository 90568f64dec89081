"""The load test: simulated devices of the hidden site, what they count, and the results that are kept."""
