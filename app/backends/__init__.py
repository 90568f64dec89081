"""The tenants' own backends, asked over HTTP. The only package that uses httpx."""
