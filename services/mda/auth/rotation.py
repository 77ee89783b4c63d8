"""Signing keys come and go by schedule: published ahead of their use, and kept until their last token has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from mda.auth.clock import Clock, utc_now
from mda.auth.errors import StoreUnavailableError
from mda.auth.keys import KeyPair, KeySet, from_pem, new_key_pair, to_pem
from mda.auth.records import Event, SigningKey
from mda.auth.sealing import Sealer, SealError

_SYSTEM: Final = "system"
_LOOK_S: Final = 10.0
"""Keys that another process made are found within so many seconds; `Schedule.lead` has room for it."""
_PLAIN: Final = "-----BEGIN"
"""How the private keys of earlier versions begin, which were not sealed."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SigningKeyStore(Protocol):
    """Where signing keys are kept. Every method may raise `StoreUnavailableError`."""

    def list_signing_keys(self) -> Sequence[SigningKey]:
        """Return all signing keys, in the order in which they sign."""
        ...

    def add_signing_key(self, key: SigningKey, event: Event) -> bool:
        """Add a key, if there is none of its generation yet; say whether it was added."""
        ...

    def seal_signing_key(self, kid: str, sealed: str) -> None:
        """Keep a key sealed in another way."""
        ...

    def remove_signing_key(self, kid: str, event: Event) -> None:
        """Remove a key; one that is gone already changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """When keys come and go.

    Attributes
    ----------
    life
        How long a key signs.
    lead
        How long before that it is published: as long as anybody may go on with a key set
        that does not have it.
    tail
        How long after that it is kept: as long as its last token may live.
    """

    life: timedelta
    lead: timedelta
    tail: timedelta

    def next_from(self, newest: SigningKey, now: datetime) -> datetime | None:
        """Return from when the key after the newest one signs, if it is to be made now."""
        due = newest.signs_from + self.life
        return max(due, now + self.lead) if now >= due - self.lead else None

    def retired(self, keys: Sequence[SigningKey], usable: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
        """Return the keys whose last tokens have ended, since usable ones took their place."""
        in_place = [key.generation for key in usable if key.signs_from + self.tail <= now]
        return [key for key in keys if key.generation < max(in_place, default=0)]


class KeyRotation:
    """Keeps a key set as the store and the schedule want it. Any number of processes may do so at once.

    Parameters
    ----------
    store
        Where the keys are kept, sealed.
    sealers
        What opens them; the first one also seals.
    schedule
        When they come and go.
    clock
        The present time.
    """

    def __init__(
        self, store: SigningKeyStore, sealers: Sequence[Sealer], schedule: Schedule, clock: Clock = utc_now
    ) -> None:
        self._store = store
        self._sealers = sealers
        self._schedule = schedule
        self._clock = clock
        self._opened: dict[str, KeyPair] = {}
        self.keys = KeySet([])

    def refresh(self) -> KeySet:
        """Make and remove the keys that are due, and return the set of those that can be opened. Blocks.

        Raises
        ------
        SealError
            If a new key cannot be sealed, or no key be opened that signs by now.
        StoreUnavailableError
            If the store does not answer.
        """
        now = self._clock()
        keys = self._store.list_signing_keys()
        signs_from = self._schedule.next_from(keys[-1], now) if keys else now
        if signs_from is not None:
            self._make(keys[-1].generation + 1 if keys else 1, signs_from, now)
        # Read again, as another process may have been first.
        keys = self._store.list_signing_keys()
        opened = self._open_all(keys, now)
        retired = self._schedule.retired(keys, [key for key in keys if key.kid in opened], now)
        for key in retired:
            self._store.remove_signing_key(key.kid, Event(_SYSTEM, "signing_key.remove", key.kid, now))
            opened.pop(key.kid, None)
        self._opened = opened
        self.keys.replace(list(opened.values()))
        return self.keys

    async def run(self) -> None:
        """Refresh for ever; while the store or a sealer does not answer, the keys stay as they are."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await asyncio.to_thread(self.refresh)
            except (SealError, StoreUnavailableError) as error:
                _log.warning("signing keys are not refreshed", error=str(error))

    def _make(self, generation: int, signs_from: datetime, now: datetime) -> None:
        pair = new_key_pair(signs_from)
        sealed = self._sealers[0].seal(to_pem(pair), pair.kid)
        key = SigningKey(generation, pair.kid, sealed, created_at=now, signs_from=signs_from)
        details = {"signs_from": signs_from.isoformat(timespec="seconds")}
        self._store.add_signing_key(key, Event(_SYSTEM, "signing_key.add", key.kid, now, details=details))

    def _open_all(self, keys: Sequence[SigningKey], now: datetime) -> dict[str, KeyPair]:
        """Return the keys that can be opened, by name; one that cannot stops no other."""
        opened: dict[str, KeyPair] = {}
        failure: SealError | None = None
        for key in keys:
            try:
                opened[key.kid] = self._opened.get(key.kid) or self._open(key)
            except SealError as error:
                failure = error
                _log.error("a signing key cannot be opened", kid=key.kid, error=str(error))
        if failure is not None and not any(pair.signs_from <= now for pair in opened.values()):
            raise failure
        return opened

    def _open(self, key: SigningKey) -> KeyPair:
        plain = key.sealed.startswith(_PLAIN)
        pem = key.sealed.encode() if plain else self._sealer_of(key).open(key.sealed, key.kid)
        try:
            pair = from_pem(pem, key.kid, key.signs_from)
        except ValueError as error:
            raise SealError(f"what is sealed as {key.kid} is no signing key: {type(error).__name__}") from None
        if not self._sealers[0].is_current(key.sealed):
            self._seal_anew(key, pem)
        return pair

    def _seal_anew(self, key: SigningKey, pem: bytes) -> None:
        try:
            self._store.seal_signing_key(key.kid, self._sealers[0].seal(pem, key.kid))
        except SealError as error:  # it can be used, and is sealed anew at the next start
            _log.warning("a signing key is not sealed anew", kid=key.kid, error=str(error))

    def _sealer_of(self, key: SigningKey) -> Sealer:
        for sealer in self._sealers:
            if sealer.opens(key.sealed):
                return sealer
        form = key.sealed.partition(":")[0]
        raise SealError(f"signing key {key.kid} is sealed by {form!r}, which is not set up")
