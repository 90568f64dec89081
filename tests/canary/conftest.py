"""Nodes with a canary in a hurry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.deployment import Deployment

SITES = {"shop": {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": "a-key-of-the-shop", "userRoomPrefix": "user_"}}
#: The environment of a node whose canary sends five messages a second.
HURRIED = {"RECADO_CANARY": "true", "TEST_MODULE": "tests.support.canary_node"}


@pytest.fixture
def deploy() -> Iterator[Callable[..., Deployment]]:
    """Starts deployments; the environment is given by name."""
    started: list[Deployment] = []

    def start(config: dict[str, Any] | None = None, **environment: str) -> Deployment:
        started.append(Deployment(SITES, config, environment=HURRIED | environment))
        return started[-1]

    yield start
    for deployment in started:
        deployment.end()
