"""A certificate authority of the tests, and the certificates of servers and clients that it signs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key; they end with their folder."""

    cert: Path
    key: Path

    def take_over(self, other: Pair) -> None:
        """Put the content of other files in the place of these, as a renewal does: each file at one moment."""
        for mine, its in ((self.cert, other.cert), (self.key, other.key)):
            fresh = mine.with_suffix(".fresh")
            fresh.write_bytes(its.read_bytes())
            fresh.replace(mine)


class Authority:
    """Signs certificates for 127.0.0.1 and `localhost`. Its files lie in the folder and end with it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._count = 0
        self.cert = folder / f"{name}.pem"
        built = self._builder(self._name, self._key.public_key(), 10).add_extension(
            x509.BasicConstraints(True, None), True
        )
        self.cert.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def sign(self, name: str, days: float = 30, is_rsa: bool = False) -> Pair:
        """Make a certificate that ends in so many days; negative ones have passed."""
        key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        built = self._builder(_name(name), key.public_key(), days).add_extension(names, critical=False)
        self._count += 1
        pair = Pair(self.folder / f"{name}-{self._count}.pem", self.folder / f"{name}-{self._count}.key")
        pair.cert.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        no_lock = serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, no_lock))
        return pair

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority alone, with a certificate of its own."""
        context = ssl.create_default_context(cafile=self.cert)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def _builder(self, name: x509.Name, key: _PublicKey, days: float) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
