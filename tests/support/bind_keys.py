"""Bind keys as a website's backend makes them, with PyJWT and cryptography."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

JWT_SECRET = "s3cr3t-for-bind-keys-of-32-bytes-or-more"


class KeyPair:
    """An RSA key of a site. Lives as long as the tests that use it."""

    def __init__(self) -> None:
        """Generate a key of 2,048 bits."""
        self.private: RSAPrivateKey = generate_private_key(65_537, 2_048)
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.private_pem = pem.decode()
        public = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public_pem = public.decode()

    def encrypt(self, text: bytes) -> str:
        """Encrypt as the original's backends do."""
        return base64.b64encode(self.private.public_key().encrypt(text, PKCS1v15())).decode()

    def key_of(self, user: object, age_seconds: float = 0) -> str:
        """The original's bind key for a user."""
        return self.encrypt(json.dumps({"iat": int(time.time() - age_seconds), "uid": user}).encode())

    def jwt_of(self, user: object, **claims: Any) -> str:
        """A JWT signed with RS256."""
        return jwt.encode({"uid": user, "iat": time.time(), **claims}, self.private, "RS256")


def jwt_of(user: object, secret: str = JWT_SECRET, **claims: Any) -> str:
    """A JWT signed with HS256."""
    return jwt.encode({"uid": user, "iat": time.time(), **claims}, secret, "HS256")
