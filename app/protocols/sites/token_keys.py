"""The keys that verify tokens: secrets, public keys in PEM, and the keys of a JWKS. Each key has its own algorithms, so
no token chooses how it is checked, and `none` is no algorithm at all.

Knows neither claims nor HTTP.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from msgspec import Raw, Struct

from app.config.settings import JwtIssuer
from app.errors import RecadoError

#: The answer of a JWKS, and the keys in it.
MAX_JWKS_BYTES = 262_144
MAX_JWKS_KEYS = 100
#: The keys that are tried for one token: several have its name, or it names none.
MOST_TRIED = 5
#: The bits of an RSA key. A check with a longer key takes longer, and a shorter key is no longer safe.
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 4_096
#: A public exponent beyond this makes a check as dear as a signature; nobody uses one.
_MOST_EXPONENT = 2**32
_MAX_NUMBER_CHARACTERS = 1_024

HMAC = frozenset(("HS256", "HS384", "HS512"))
RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
ED25519 = frozenset(("EdDSA", "Ed25519"))
#: The one algorithm of each curve.
_CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "P-256": ("ES256", ec.SECP256R1()),
    "P-384": ("ES384", ec.SECP384R1()),
    "P-521": ("ES512", ec.SECP521R1()),
}
#: The algorithms of keys that a set may hold.
OF_SETS = RSA | ED25519 | {name for name, _ in _CURVES.values()}
_verifiers = get_default_algorithms()
_verifiers["Ed25519"] = _verifiers["EdDSA"]


class KeyUnusable(RecadoError):
    """The key cannot be used."""


class TokenKey(Struct, frozen=True):
    """One key. Lives as long as the settings or the set that it is of. Its repr holds nothing of it."""

    #: The algorithms that it may be used with.
    algorithms: frozenset[str]
    key: Any

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's. Costs microseconds, and up to some hundred of them."""
        return algorithm in self.algorithms and bool(_verifiers[algorithm].verify(signed, self.key, signature))

    def __repr__(self) -> str:
        return f"TokenKey({', '.join(sorted(self.algorithms))})"


class JsonWebKey(Struct, frozen=True):
    """A key of a set as it stands there (RFC 7517), without the fields that do not matter here."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class KeySet:
    """The keys of a JWKS. Lives until the set is read again. A key is made of its numbers when it is first needed."""

    def __init__(self, keys: Sequence[JsonWebKey]) -> None:
        self._keys = keys
        self._made: dict[int, TokenKey | None] = {}

    def find(self, algorithm: str, key_id: str | None) -> list[TokenKey]:
        """The keys for a token with this algorithm and key id; without an id every key of the algorithm."""
        places = (place for place, one in enumerate(self._keys) if key_id is None or one.kid == key_id)
        found: list[TokenKey] = []
        for key in map(self._make, places):
            if key is not None and algorithm in key.algorithms:
                found.append(key)
            if len(found) == MOST_TRIED:
                break
        return found

    def _make(self, place: int) -> TokenKey | None:
        if place not in self._made:
            try:
                self._made[place] = _key_of(self._keys[place])
            except (ValueError, KeyUnusable):
                self._made[place] = None
        return self._made[place]


def configured_keys(issuer: JwtIssuer) -> list[TokenKey]:
    """The keys in the settings of an issuer. Raises KeyUnusable; the error says nothing of a key."""
    secrets = [TokenKey(HMAC, secret.encode("utf-8", "surrogatepass")) for secret in issuer.secrets]
    return secrets + [_public_key(_read_pem(pem)) for pem in issuer.public_keys]


def read_key_set(body: bytes) -> KeySet:
    """The set in the answer of a JWKS; keys that cannot verify signatures are left out. Raises KeyUnusable."""
    if len(body) > MAX_JWKS_BYTES:
        raise KeyUnusable(f"expected at most {MAX_JWKS_BYTES} bytes")
    try:
        found = msgspec.json.decode(body, type=dict[str, Raw])
        keys = msgspec.json.decode(found.get("keys", Raw(b"0")), type=list[Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise KeyUnusable('expected a JSON object with a list "keys"') from None
    if len(keys) > MAX_JWKS_KEYS:
        raise KeyUnusable(f"expected at most {MAX_JWKS_KEYS} keys")
    return KeySet(list(_usable(keys)))


def _usable(keys: Sequence[Raw]) -> Iterator[JsonWebKey]:
    for raw in keys:
        try:
            key = msgspec.json.decode(raw, type=JsonWebKey)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
        # A secret in a set that everybody may read is none.
        if key.kty in ("RSA", "EC", "OKP") and key.use in (None, "sig"):
            yield key


def _key_of(given: JsonWebKey) -> TokenKey:
    """The key of a set. Raises ValueError and KeyUnusable."""
    if given.kty == "RSA":
        key = _public_key(_rsa_key(_number(given.n), _number(given.e)))
    elif given.kty == "EC" and given.crv in _CURVES:
        numbers = ec.EllipticCurvePublicNumbers(_number(given.x), _number(given.y), _CURVES[given.crv][1])
        key = _public_key(numbers.public_key())
    elif given.kty == "OKP" and given.crv == "Ed25519":
        key = _public_key(ed25519.Ed25519PublicKey.from_public_bytes(_bytes(given.x)))
    else:
        raise KeyUnusable
    return key if given.alg is None else TokenKey(key.algorithms & {given.alg}, key.key)


def _rsa_key(modulus: int, exponent: int) -> rsa.RSAPublicKey:
    # Before the key is made: making it checks the numbers, which takes longer the longer they are.
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or exponent >= _MOST_EXPONENT:
        raise KeyUnusable
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _public_key(key: Any) -> TokenKey:
    """The key with the algorithms of its kind. Raises KeyUnusable."""
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return TokenKey(RSA, key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithms = frozenset(name for name, curve in _CURVES.values() if curve.name == key.curve.name)
        if algorithms:
            return TokenKey(algorithms, key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return TokenKey(ED25519, key)
    rsa_bits = f"RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
    raise KeyUnusable(f"expected a key of {rsa_bits}, of the curves {', '.join(_CURVES)}, or of Ed25519")


def _read_pem(text: str) -> Any:
    pem = text.encode("utf-8", "surrogatepass")
    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            return x509.load_pem_x509_certificate(pem).public_key()
        return load_pem_public_key(pem)
    except (ValueError, TypeError):
        raise KeyUnusable("expected a public key or a certificate in PEM, which begins with -----BEGIN") from None
    except Exception as error:
        # An algorithm that the library does not know.
        raise KeyUnusable(f"expected a public key of another kind ({type(error).__name__})") from None


def _bytes(text: str) -> bytes:
    if len(text) > _MAX_NUMBER_CHARACTERS:
        raise KeyUnusable
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")
