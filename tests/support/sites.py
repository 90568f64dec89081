"""The sites that the contract suite's server serves, each with the settings that a group of tests needs."""

from __future__ import annotations

from typing import Any

from tests.support.ports import free_port
from tests.support.tenant import SECRET, Tenant

# A number in the YAML, as in many a sites.yml; long enough to be found in a log without a false hit.
NUMERIC_KEY = 9988776655443322
#: A site's name beyond ASCII, and beyond the characters that JavaScript counts as one.
FAR_NAME = "día 😀"
ORIGIN = "https://www.example.com"


def contract_sites(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Return sites.yml as a value; each site's authUrl is `/<site>/rooms` of the tenant's backend."""

    def site(name: str, **settings: Any) -> dict[str, Any]:
        defaults = {
            "authUrl": f"{tenant.url}/{name}/rooms",
            "authScheme": "Token",
            "apiKey": f"{SECRET}-key-{name}",
            "userRoomPrefix": "user_",
        }
        return {key: value for key, value in {**defaults, **settings}.items() if value is not None}

    sites: dict[str, dict[str, Any]] = {
        # With queues, and without: most tests use these.
        "alpha": {"updateUserUrl": f"{tenant.url}/alpha/users/:id"},
        "beta": {"authScheme": "Bearer", "updateUserUrl": f"{tenant.url}/beta/users/:id"},
        "plain": {"userRoomPrefix": None},
        # Devices that expire soon, and devices that never expire.
        "brief": {"device_ttl": 1, "updateUserUrl": f"{tenant.url}/brief/users/:id"},
        "endless": {"device_ttl": 0},
        # Small limits.
        "small_batch": {"batch_limit": {"messages": 3}},
        "small_batch_bytes": {"batch_limit": {"bytes": 2000}},
        "small_queue": {"queue_limit": {"messages": 5}},
        "small_queue_bytes": {"queue_limit": {"bytes": 4000}},
        # The other settings.
        "public": {"publicChannel": "public", "updateUserUrl": f"{tenant.url}/public/users/:id"},
        "members": {"userRoomPrefix": "member", "updateUserUrl": f"{tenant.url}/members/users/:id"},
        "numeric": {"apiKey": NUMERIC_KEY},
        "unreachable": {"authUrl": f"http://127.0.0.1:{free_port()}/rooms"},
        "narrow": {"origins": [ORIGIN]},
        "pushed": {"pusher": {"app_id": 4242, "key": ["new", "pusher"], "secret": [f"{SECRET}-1", f"{SECRET}-2"]}},
        FAR_NAME: {"authUrl": f"{tenant.url}/alpha/rooms"},
    }
    return {name: site(name, **settings) for name, settings in sites.items()}


def load_sites(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Return two sites with queues whose only backend call is authUrl, for tests with many clients."""
    contract = contract_sites(tenant)
    return {
        name: contract["alpha"] | {"apiKey": f"{SECRET}-key-{name}", "updateUserUrl": None} for name in ("one", "two")
    }
