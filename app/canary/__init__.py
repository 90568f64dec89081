"""The canary: each node sends itself messages over its public port, and tells where one got stuck on its way."""
