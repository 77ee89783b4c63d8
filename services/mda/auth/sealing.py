"""Secrets at rest: sealed under a key that is not where they are kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.error import HTTPError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TIMEOUT_S: Final = 5.0


class SealError(Exception):
    """A secret cannot be sealed or opened. The message holds nothing of it."""


class Sealer(Protocol):
    """Seals secrets and opens them."""

    def opens(self, sealed: str) -> bool:
        """Return whether this is what sealed it, by its form."""
        ...

    def is_current(self, sealed: str) -> bool:
        """Return whether this would seal it with the same key today."""
        ...

    def seal(self, secret: bytes, name: str) -> str:
        """Return a secret, sealed for the name that it goes by.

        Raises
        ------
        SealError
            If it cannot be sealed now.
        """
        ...

    def open(self, sealed: str, name: str) -> bytes:
        """Return what was sealed for a name.

        Raises
        ------
        SealError
            If it cannot be opened: it was changed, was sealed for another name, or the
            key is not there.
        """
        ...


class KekSealer:
    """Seals with AES-256-GCM under key-encryption keys that the process was given.

    Parameters
    ----------
    keks
        The keys, each of 256 bits in base64url. The first one seals; all open, so that
        one can take another's place.

    Raises
    ------
    ValueError
        If there is none, or one is not of that form. The message does not repeat it.
    """

    _PREFIX: Final = "kek:"

    def __init__(self, keks: Sequence[str]) -> None:
        loaded = [_loaded(kek) for kek in keks]
        if not loaded:
            raise ValueError("there is no key-encryption key")
        self._ciphers = {_fingerprint(kek): AESGCM(kek) for kek in loaded}
        self._first = _fingerprint(loaded[0])

    def opens(self, sealed: str) -> bool:
        """Return whether it is sealed under a key-encryption key."""
        return sealed.startswith(self._PREFIX)

    def is_current(self, sealed: str) -> bool:
        """Return whether it is sealed under the first key."""
        return sealed.startswith(f"{self._PREFIX}{self._first}:")

    def seal(self, secret: bytes, name: str) -> str:
        """Return a secret, sealed under the first key."""
        nonce = os.urandom(_NONCE_BYTES)
        content = nonce + self._ciphers[self._first].encrypt(nonce, secret, name.encode())
        return f"{self._PREFIX}{self._first}:{base64.b64encode(content).decode()}"

    def open(self, sealed: str, name: str) -> bytes:
        """Return what was sealed under any of the keys."""
        fingerprint, _, text = sealed.removeprefix(self._PREFIX).partition(":")
        cipher = self._ciphers.get(fingerprint)
        if cipher is None:
            raise SealError(f"{name} is sealed under a key-encryption key that is not there: {fingerprint}")
        try:
            content = base64.b64decode(text)
            return cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"what is sealed as {name} has been changed, or is another secret") from None


class TransitSealer:
    """Seals by the transit engine of OpenBao or Vault, whose key never leaves it.

    Parameters
    ----------
    url
        Where it is, such as `https://bao.example.com:8200`.
    key
        The name of its key: `<mount>/<name>`, or a name in the mount `transit`.
    token_file
        Where its token stands; read at each call, as agents renew it.
    """

    _PREFIX: Final = "transit:"

    def __init__(self, url: str, key: str, token_file: Path) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("the URL of the transit engine must begin with https:// or http://")
        mount, _, name = key.rpartition("/")
        self._url = f"{url.rstrip('/')}/v1/{mount or 'transit'}"
        self._key = name
        self._token_file = token_file
        self._opener = _opener()

    def opens(self, sealed: str) -> bool:
        """Return whether it is sealed by a transit engine."""
        return sealed.startswith(self._PREFIX)

    def is_current(self, sealed: str) -> bool:
        """Return whether it is sealed by a transit engine, under whatever version of its key."""
        return self.opens(sealed)

    def seal(self, secret: bytes, name: str) -> str:
        """Return a secret, sealed under the newest version of the engine's key."""
        with _seal_errors("encrypt"):
            answer = self._ask("encrypt", {"plaintext": _base64(secret), "associated_data": _base64(name.encode())})
            return self._PREFIX + answer["ciphertext"]

    def open(self, sealed: str, name: str) -> bytes:
        """Return what was sealed under any version of the engine's key."""
        ciphertext = sealed.removeprefix(self._PREFIX)
        with _seal_errors("decrypt"):
            answer = self._ask("decrypt", {"ciphertext": ciphertext, "associated_data": _base64(name.encode())})
            return base64.b64decode(answer["plaintext"])

    def _ask(self, what: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        headers = {"X-Vault-Token": self._token_file.read_text().strip(), "Content-Type": "application/json"}
        request = Request(f"{self._url}/{what}/{self._key}", json.dumps(body).encode(), headers)  # noqa: S310 - checked above
        with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)["data"]


def _opener() -> OpenerDirector:
    """Return what follows no redirect: the engine's token would go along, to wherever that points."""
    opener = OpenerDirector()
    for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


@contextmanager
def _seal_errors(what: str) -> Generator[None]:
    try:
        yield
    except HTTPError as error:
        raise SealError(f"the transit engine refused to {what}: HTTP {error.code}") from None
    # Whatever an answer may lack or be: it may come from something else that listens there.
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise SealError(f"the transit engine cannot be asked to {what}: {type(error).__name__}") from None


def _loaded(kek: str) -> bytes:
    try:
        key = base64.b64decode(kek.strip() + "=" * (-len(kek.strip()) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEK_BYTES:
        raise ValueError(f"a key-encryption key is {_KEK_BYTES} bytes in base64url")
    return key


def _fingerprint(kek: bytes) -> str:
    return hashlib.sha256(b"mda kek " + kek).hexdigest()[:16]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
