"""The certificate files of a server that ends TLS itself, read whole or not at all, and what their certificate says.

Knows files and OpenSSL; nothing of sockets.
"""

import contextlib
import hashlib
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from app.config.settings import Config, TlsSettings
from app.errors import ConfigError

#: A file of certificates with their chains, or of a key.
MAX_FILE_BYTES = 1 << 20
_DAY_SECONDS = 86_400
#: A handshake costs about this beside its signature.
_BASE_COST_SECONDS = 0.0003
_TRIES = 3
_OWN_NAME = "recado"
_OWN_SERIAL = 1
_OWN_FROM, _OWN_UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


class CertificateFacts(Struct, frozen=True):
    """The first certificate of the file, which clients see. Lives as long as it is in use."""

    subject: str
    issuer: str
    #: The names and addresses that it is for.
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime

    def days_left(self, now: datetime) -> float:
        """The days until it ends; negative behind its end."""
        return (self.valid_until - now).total_seconds() / _DAY_SECONDS


class ServerTls(Struct, frozen=True):
    """One reading of the files. Lives until the next one has replaced it, and as long as its connections."""

    context: ssl.SSLContext
    certificate: CertificateFacts
    #: The time that a handshake takes the event loop.
    cost_seconds: float


class OwnClient(Struct, frozen=True):
    """The certificate of this server as its own client, where clients need one. Its repr has no secret."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "OwnClient()"


def load_tls(settings: TlsSettings, own_clients: Sequence[OwnClient] = ()) -> ServerTls:
    """Reads the files. `own_clients` are let in beside the clients with a certificate that `ca` has signed.

    Raises ConfigError that names the setting, for files that cannot serve.
    """
    assert settings.cert is not None, "TLS is on"
    assert settings.key is not None, "the configuration has checked it"
    certificate = _facts_of(_read("cert", settings.cert), settings.cert)
    _read("key", settings.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_SINGLE_ECDH_USE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.cert, settings.key, _refuse_passphrase)
    except _Locked:
        raise _useless("key", settings.key, "it has a passphrase") from None
    except OSError as error:
        raise _useless("key", settings.key, f"with the certificate of tls.cert: {_reason_of(error)}") from None
    if settings.ca is not None:
        _trust_clients(context, settings.ca, settings.verify_clients, own_clients)
    return ServerTls(context, certificate, _cost_of(context))


def own_client(secret: str) -> OwnClient:
    """The same certificate for every process that knows the secret: Ed25519 signs the same bytes the same way."""
    seed = hashlib.sha256(b"recado client certificate " + secret.encode()).digest()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _OWN_NAME)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_OWN_SERIAL)
        .not_valid_before(_OWN_FROM)
        .not_valid_after(_OWN_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return OwnClient(built.public_bytes(pem), private)


def present(context: ssl.SSLContext, client: OwnClient) -> None:
    """Has connections of a client's context present the certificate."""
    # OpenSSL reads a key from files alone, and only this user may read these, for a moment.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.pem"
        path.write_bytes(client.key + client.certificate)
        context.load_cert_chain(path)


def own_context(client: OwnClient | None) -> ssl.SSLContext:
    """The context of this server as its own client. The certificate of its port may be for other names."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client is not None:
        present(context, client)
    return context


def peer_context(config: Config) -> ssl.SSLContext | None:
    """The context for requests to other nodes, which have the same settings: `ca` may have signed their certificates,
    as the system's authorities may. None: the system's context. Raises ConfigError."""
    settings, secret = config.tls, config.cluster.secret
    if not settings.is_on or secret is None:
        return None
    context = ssl.create_default_context()
    if settings.ca is not None:
        _load_ca(context, settings.ca)
    if settings.verify_clients:
        present(context, own_client(secret))
    return context


class _Locked(Exception):
    """The key wants a passphrase."""


def _refuse_passphrase(*_: object) -> NoReturn:
    # Without this OpenSSL asks on the terminal, and the server waits for it.
    raise _Locked


def _trust_clients(context: ssl.SSLContext, ca: Path, is_required: bool, own_clients: Sequence[OwnClient]) -> None:
    _load_ca(context, ca)
    if is_required:
        context.verify_mode = ssl.CERT_REQUIRED
        for own in own_clients:
            context.load_verify_locations(cadata=own.certificate.decode("ascii"))


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    _read("ca", ca)
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise _useless("ca", ca, _reason_of(error)) from None


def _read(key: str, path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"tls.{key}: expected a file that can be read, {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"tls.{key}: expected a file of at most {MAX_FILE_BYTES} bytes, {path}")
    return data


def _facts_of(pem: bytes, path: Path) -> CertificateFacts:
    try:
        first = x509.load_pem_x509_certificates(pem)[0]
        names = tuple(_names_of(first))
        subject, issuer = first.subject.rfc4514_string(), first.issuer.rfc4514_string()
    except ValueError:
        raise _useless("cert", path, "it holds no certificate in PEM") from None
    return CertificateFacts(subject, issuer, names, first.not_valid_before_utc, first.not_valid_after_utc)


def _names_of(certificate: x509.Certificate) -> list[str]:
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return []


def _useless(key: str, path: Path, reason: str) -> ConfigError:
    return ConfigError(f"tls.{key}: {path} does not serve: {reason}")


def _reason_of(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


def _cost_of(context: ssl.SSLContext) -> float:
    """The time that the answer to a client's first message takes, in which the key signs: the least of a few tries."""
    return _BASE_COST_SECONDS + min(_answer_seconds(context) for _ in range(_TRIES))


def _answer_seconds(context: ssl.SSLContext) -> float:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = context.wrap_bio(to_server, to_client, server_side=True)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(to_client, to_server).do_handshake()
    began = perf_counter()
    with contextlib.suppress(ssl.SSLWantReadError):
        server_side.do_handshake()
    return perf_counter() - began
