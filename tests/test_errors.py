"""The tree of errors: the bases of each class, and its text."""

from __future__ import annotations

import inspect

import pytest

from app import errors
from app.errors import (
    AuthRefused,
    BadRequest,
    ConfigError,
    GuardRefused,
    LimitReached,
    OtherRequest,
    RecadoError,
    RequestRefused,
    RoomsChanged,
    StoreAway,
    StoreError,
    StoreUnavailable,
    TicketRefused,
    WrongType,
)

TREE = {
    RecadoError: Exception,
    ConfigError: RecadoError,
    BadRequest: RecadoError,
    RequestRefused: RecadoError,
    GuardRefused: RecadoError,
    RoomsChanged: RecadoError,
    OtherRequest: RecadoError,
    AuthRefused: RecadoError,
    LimitReached: RecadoError,
    TicketRefused: RecadoError,
    StoreError: RecadoError,
    StoreUnavailable: StoreError,
    StoreAway: StoreUnavailable,
    WrongType: StoreError,
}


def test_tree() -> None:
    """Every error of Recado has its place under the root, and the module's docstring shows it."""
    classes = {member for _, member in inspect.getmembers(errors, inspect.isclass)}
    assert {member: member.__base__ for member in classes} == TREE
    assert all(member.__name__ in (errors.__doc__ or "") for member in classes)


@pytest.mark.parametrize("error_type", TREE)
def test_message_defaults_to_the_docstring(error_type: type[RecadoError]) -> None:
    """The default text of an error is its class's docstring; a given text takes its place."""
    assert str(error_type()) == (error_type.__doc__ or "").splitlines()[0] != ""
    assert str(error_type("so and so")) == "so and so"


def test_bad_request_has_a_status() -> None:
    """The status is 400 unless another is given."""
    assert BadRequest().status == 400
    assert BadRequest("too large", status=413).status == 413


def test_limit_reached_has_a_status() -> None:
    """The status is 429 unless another is given; the time to retry is there where it is known."""
    assert (LimitReached().status, LimitReached().retry_after_seconds) == (429, None)
    error = LimitReached("too long", "message_bytes", status=413)
    assert (str(error), error.limit, error.status) == ("too long", "message_bytes", 413)
