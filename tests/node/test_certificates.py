"""The certificate files: read whole, refused with the setting and the reason, and the facts that they tell."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from app.config.settings import TlsSettings
from app.errors import ConfigError
from app.node.certificates import MAX_FILE_BYTES, load_tls, own_client, present
from tests.support.certificates import Authority


def settings(authority: Authority, **given: Path | bool) -> TlsSettings:
    """The settings of a server with a certificate of the authority; `given` replaces or adds."""
    pair = authority.sign("server")
    return TlsSettings(**{"cert": pair.cert, "key": pair.key, **given})  # type: ignore[arg-type]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test."""
    return Authority(tmp_path)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let both shake hands in memory, with one byte of the server behind; return the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for side in (client_side, server_side, client_side, server_side):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    server_side.write(b"x")
    assert client_side.read() == b"x"
    return server_side


def test_the_facts_of_the_certificate(authority: Authority) -> None:
    """Subject, issuer, names and days come from the first certificate of the file."""
    pair = authority.sign("www.example.com", days=10)
    pair.cert.write_bytes(pair.cert.read_bytes() + authority.cert.read_bytes())
    facts = load_tls(TlsSettings(cert=pair.cert, key=pair.key)).certificate
    assert (facts.subject, facts.issuer) == ("CN=www.example.com", "CN=authority")
    assert facts.names == ("localhost", "127.0.0.1")
    now = datetime.now(UTC)
    assert facts.days_left(now) == pytest.approx(10, abs=0.1)
    assert facts.days_left(now + timedelta(days=12)) == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize("is_rsa", [False, True])
def test_a_handshake_has_a_cost(authority: Authority, is_rsa: bool) -> None:
    """The time of a handshake is measured: some tenths of a millisecond, or some milliseconds."""
    pair = authority.sign("server", is_rsa=is_rsa)
    assert 0.0003 < load_tls(TlsSettings(cert=pair.cert, key=pair.key)).cost_seconds < 0.5


def test_old_protocols_are_refused(authority: Authority) -> None:
    """A server speaks TLS 1.2 and 1.3."""
    context = load_tls(settings(authority)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = authority.client_context()
        client.minimum_version = client.maximum_version = version
        assert shake_hands(context, client).version() == version.name.replace("_", ".")


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("cert", None, "tls.cert: expected a file that can be read, .*No such file"),
        ("key", None, "tls.key: expected a file that can be read, .*No such file"),
        ("ca", None, "tls.ca: expected a file that can be read, .*No such file"),
        ("cert", b"", "tls.cert: .* does not serve: it holds no certificate in PEM"),
        ("cert", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "tls.cert: .* no certificate"),
        ("cert", b"x" * (MAX_FILE_BYTES + 1), "tls.cert: expected a file of at most 1048576 bytes"),
        ("key", b"hidden", "tls.key: .* does not serve: with the certificate of tls.cert: "),
        ("ca", b"nothing", "tls.ca: .* does not serve: "),
    ],
)
def test_files_that_do_not_serve(
    authority: Authority, tmp_path: Path, key: str, content: bytes | None, reason: str
) -> None:
    """A file that is missing, too long or of another form is named with its setting and the reason, not its content."""
    path = tmp_path / "wrong"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_tls(settings(authority, **{key: path}))
    assert "hidden" not in str(caught.value)


def test_the_key_of_another_certificate(authority: Authority) -> None:
    """A key that does not belong to the certificate is refused."""
    with pytest.raises(ConfigError, match=r"tls.key: .*KEY_VALUES_MISMATCH"):
        load_tls(settings(authority, key=authority.sign("other").key))


def test_a_key_with_a_passphrase(authority: Authority) -> None:
    """A locked key is refused at once: nobody is asked for its passphrase."""
    pair = authority.sign("server")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"hidden")
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(ConfigError, match=r"tls.key: .* does not serve: it has a passphrase"):
        load_tls(TlsSettings(cert=pair.cert, key=pair.key))


def test_clients_with_a_certificate(authority: Authority, tmp_path: Path) -> None:
    """Where clients are verified, those whose certificate the authority has signed get in, others do not."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").sign("stranger")
    context = load_tls(settings(authority, ca=authority.cert, verify_clients=True)).context
    shake_hands(context, authority.client_context(authority.sign("client")))
    for client in (authority.client_context(), authority.client_context(stranger)):
        with pytest.raises(ssl.SSLError):
            shake_hands(context, client)


def test_the_server_as_its_own_client(authority: Authority) -> None:
    """The certificate that a server makes of a secret lets it in, also in another process; one of another secret
    does not. No repr shows it."""
    own = own_client("secret")
    assert own == own_client("secret")
    assert "PRIVATE" not in repr(own)
    context = load_tls(settings(authority, ca=authority.cert, verify_clients=True), [own]).context
    client = authority.client_context()
    present(client, own_client("secret"))
    shake_hands(context, client)
    wrong = authority.client_context()
    present(wrong, own_client("guess"))
    with pytest.raises(ssl.SSLError):
        shake_hands(context, wrong)
    # A certificate of the authority goes on to work beside it.
    shake_hands(context, authority.client_context(authority.sign("client")))
