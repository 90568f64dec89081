"""The signature of Pusher's HTTP API beside a second implementation of it. Pure."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.sites.pusher import signature as signature_module
from app.protocols.sites.pusher.signature import (
    SIGNED_SECONDS,
    NotSigned,
    check_body,
    check_time,
    has_signature,
    signed_request,
)
from app.transport.query import fields_of
from tests.protocols.sites.pusher.signing import signature_of

SECRET = "7ad3773142a6692b25b8"
#: The example of Pusher's documentation.
EXAMPLE_BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
EXAMPLE = {
    "auth_key": "278d425bdf160c739803",
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
}
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(lambda name: name not in EXAMPLE)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def test_the_documented_example() -> None:
    """The example of Pusher's documentation has its signature and its MD5."""
    request = signed_request("POST", ["/apps/3/events"], list(EXAMPLE.items()))
    assert has_signature(request, SECRET)
    check_body(request, EXAMPLE_BODY)


@given(
    method=st.sampled_from(["GET", "POST"]),
    path=st.text("abc/=@,.;-_ é", max_size=20).map(lambda rest: f"/apps/1/{rest}"),
    more=st.dictionaries(names, values, max_size=6),
    secret=values,
    changed=st.integers(0, 5),
)
def test_exactly_the_signatures_of_a_second_implementation(
    method: str, path: str, more: dict[str, str], secret: str, changed: int
) -> None:
    """A request is signed when a second implementation has signed it, as it reaches the server: with percent signs and
    with names in any case. With another method, path, field, value or secret it is not."""
    fields = {"auth_key": "k", "auth_timestamp": "1", "auth_version": "1.0", **more}
    signature = signature_of(secret, method, path, fields)
    sent = [(name.upper() if changed % 2 else name, value) for name, value in fields.items()]
    query = "&".join(f"{name}={quote(value)}" for name, value in [*sent, ("auth_signature", signature)])
    read = fields_of(query.encode())
    assert has_signature(signed_request(method, [quote(path), path], read), secret)
    other = [("auth_key", "l") if name.lower() == "auth_key" else (name, value) for name, value in read]
    wrong = [
        (signed_request("PUT", [path], read), secret),
        (signed_request(method, [f"{path}x"], read), secret),
        (signed_request(method, [path], [*read, ("zzzzzzzzz", "")]), secret),
        (signed_request(method, [path], other), secret),
        (signed_request(method, [path], read), f"{secret}x"),
        (signed_request(method, [path], read), None),
    ]
    for request, key in wrong:
        assert not has_signature(request, key)


def test_the_stand_in_for_no_secret_is_no_secret() -> None:
    """A request that is signed with the text that stands for an unknown key's secret does not count."""
    fields = {"auth_key": "k", "auth_timestamp": "1", "auth_version": "1.0"}
    signature = signature_of(signature_module._NO_SECRET, "GET", "/a", fields)
    request = signed_request("GET", ["/a"], [*fields.items(), ("auth_signature", signature)])
    assert not has_signature(request, None)


@pytest.mark.parametrize(
    ("signature", "is_right"),
    [
        (EXAMPLE["auth_signature"], True),
        (EXAMPLE["auth_signature"].upper(), False),
        (EXAMPLE["auth_signature"][:-1], False),
        (f" {EXAMPLE['auth_signature']}", False),
        ("ü" * 64, False),
    ],
)
def test_a_signature_is_compared_exactly(signature: str, is_right: bool) -> None:
    """Only the lower-case hex text is right."""
    fields = {**EXAMPLE, "auth_signature": signature}
    assert has_signature(signed_request("POST", ["/apps/3/events"], list(fields.items())), SECRET) is is_right


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"auth_key": ""}, "auth_key: is missing."),
        ({"auth_timestamp": ""}, "auth_timestamp: is missing."),
        ({"auth_version": ""}, "auth_version: is missing."),
        ({"auth_signature": ""}, "auth_signature: is missing."),
        ({"auth_version": "1.1"}, "auth_version: expected 1.0."),
        ({"AUTH_KEY": "x"}, "Query: expected each field once."),
    ],
)
def test_a_query_that_no_signature_can_cover(change: dict[str, str], text: str) -> None:
    """Each mistake is named before any secret is looked at."""
    with pytest.raises(NotSigned, match=text):
        signed_request("POST", ["/apps/3/events"], list({**EXAMPLE, **change}.items()))


@pytest.mark.parametrize(
    ("timestamp", "is_right"),
    [
        ("1000", True),
        (str(1000 - SIGNED_SECONDS), True),
        (str(1000 + SIGNED_SECONDS), True),
        (str(999 - SIGNED_SECONDS), False),
        (str(1001 + SIGNED_SECONDS), False),
        ("-1000", False),
        ("1000.5", False),
        ("\u0661\u0660\u0660\u0660", False),
        ("9" * 5_000, False),
    ],
)
def test_the_time_of_a_request(timestamp: str, is_right: bool) -> None:
    """It is within ten minutes of the server's clock, in whole seconds."""
    request = signed_request("GET", ["/apps/3/channels"], list({**EXAMPLE, "auth_timestamp": timestamp}.items()))
    if is_right:
        check_time(request, 1000.0)
    else:
        with pytest.raises(NotSigned, match="which is 1000"):
            check_time(request, 1000.0)


@pytest.mark.parametrize(
    ("body", "md5", "is_right"),
    [
        (b"{}", hashlib.md5(b"{}").hexdigest(), True),
        (b"{}", hashlib.md5(b"{ }").hexdigest(), False),
        (b"{}", "", False),
        (b"", "", True),
        (b"", hashlib.md5(b"").hexdigest(), True),
        (b"", hashlib.md5(b"{}").hexdigest(), False),
        (b"{}", "ü", False),
    ],
)
def test_the_digest_of_a_body(body: bytes, md5: str, is_right: bool) -> None:
    """A body has its MD5 in the query; without a body there may be none."""
    request = signed_request("POST", ["/apps/3/events"], list({**EXAMPLE, "body_md5": md5}.items()))
    if is_right:
        check_body(request, body)
    else:
        with pytest.raises(NotSigned, match="body_md5"):
            check_body(request, body)
