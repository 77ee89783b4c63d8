"""What has been revoked before its time: told by auth on a log, and held to by every service."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from mda.market.errors import MarketDataError
from mda.runtime.settings import ServiceSettings
from mda.runtime.tasks import background_tasks
from mda.tape.connection import connect
from mda.tape.log import Log, Record

if TYPE_CHECKING:
    from mda.runtime.identity import Principal

STREAM: Final = "AUTH_REVOCATIONS"
SUBJECTS: Final = "auth.revocations.>"
_SUBJECT: Final = "auth.revocations."
_FIRST_LOOK_S: Final = 1.0
"""A service waits so long at its start, in seconds, to know what is revoked; longer would be an outage of its own."""
_RETRY_S: Final = 0.1
_LOOK_S: Final = 2.0
"""How often it is looked whether the log is still the same one, in seconds."""
_LOG: Final = structlog.stdlib.get_logger("mda.revocation")


class Revoked(StrEnum):
    """What can be revoked."""

    TOKEN = "token"  # noqa: S105
    KEY = "key"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens that are good no longer.

    Attributes
    ----------
    what
        What is revoked: one token, those of an API key, or those of a client.
    id
        Its id: `jti`, `client_id` or `sub` of the tokens.
    version
        Of a client: tokens of an earlier version are revoked. Of others 0.
    until_s
        When the last of the tokens is good no longer anyway, in seconds since the epoch.
    """

    what: Revoked
    id: str
    version: int
    until_s: float

    @property
    def subject(self) -> str:
        """The subject on which it is told."""
        return _SUBJECT + self.what

    def encode(self) -> bytes:
        """Return it as it is told."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Revocation:
        """Return what `encode` gave the bytes of.

        Raises
        ------
        ValueError
            If it is of a kind that is not known here.
        KeyError
            If something is missing.
        """
        fields = json.loads(data)
        return cls(Revoked(fields["what"]), fields["id"], fields["version"], fields["until_s"])


class Revocations:
    """All revocations that still count, and the streams that they may end.

    Parameters
    ----------
    clock
        Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[Revoked, str], Revocation] = OrderedDict()
        self._held: dict[tuple[Revoked, str], dict[object, tuple[Principal, Callable[[], None]]]] = {}

    def apply(self, revocation: Revocation) -> None:
        """Refuse the tokens from now on, and end the streams that they opened.

        One of a client's earlier version changes nothing: they may come twice, and late.
        """
        key = revocation.what, revocation.id
        before = self._known.get(key)
        if before is not None and before.version > revocation.version:
            return
        self._known[key] = revocation
        self._known.move_to_end(key)
        for principal, end in list(self._held.get(key, {}).values()):
            if self.covers(principal):
                end()
        self._forget()

    def covers(self, principal: Principal) -> bool:
        """Return whether the token of a principal is revoked."""
        if not self._known:
            return False
        client = self._known.get((Revoked.CLIENT, principal.client))
        return (
            (Revoked.TOKEN, principal.token_id) in self._known
            or (Revoked.KEY, principal.key) in self._known
            or (client is not None and principal.version < client.version)
        )

    @contextmanager
    def held(self, principal: Principal, end: Callable[[], None]) -> Generator[None]:
        """Call something when the token of a principal is revoked while the body runs; at once if it is already."""
        place = object()
        keys = _keys(principal)
        for key in keys:
            self._held.setdefault(key, {})[place] = principal, end
        try:
            if self.covers(principal):
                end()
            yield
        finally:
            for key in keys:
                self._release(key, place)

    def _release(self, key: tuple[Revoked, str], place: object) -> None:
        holders = self._held[key]
        del holders[place]
        if not holders:
            del self._held[key]

    def _forget(self) -> None:
        # Not exactly in the order in which they end, but within an hour of it.
        while self._known and next(iter(self._known.values())).until_s < self._clock():
            self._known.popitem(last=False)


def _keys(principal: Principal) -> list[tuple[Revoked, str]]:
    return [
        (Revoked.TOKEN, principal.token_id),
        (Revoked.KEY, principal.key),
        (Revoked.CLIENT, principal.client),
    ]


@asynccontextmanager
async def following_revocations(settings: ServiceSettings) -> AsyncGenerator[Revocations]:
    """Give the revocations that auth tells, as they come.

    While NATS is away no new ones are known, and to who starts then, none: tokens live as
    long as they say.
    """
    revocations = Revocations()
    caught_up = asyncio.Event()
    async with background_tasks() as tasks:
        tasks.create_task(_follow(settings, revocations, caught_up))
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await caught_up.wait()
        except TimeoutError:
            _LOG.warning("revocations are not known yet")
        yield revocations


async def _follow(settings: ServiceSettings, revocations: Revocations, caught_up: asyncio.Event) -> None:
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    async with connect(settings.nats_url, token, "mda-revocations") as client:
        log = Log(client, STREAM, SUBJECTS)
        made = await _made(log, None, _RETRY_S)
        while True:
            async with background_tasks() as tasks:
                tasks.create_task(_apply_all(log, revocations, caught_up))
                made = await _made(log, made, _LOOK_S)
            _LOG.warning("the log of revocations was made anew")


async def _made(log: Log, but: datetime | None, look_s: float) -> datetime:
    """Return when the log was made, once there is another than the one that was made at a time."""
    while True:
        made = await _made_or_none(log)
        if made is not None and made != but:
            return made
        await asyncio.sleep(look_s)


async def _made_or_none(log: Log) -> datetime | None:
    try:
        info = await log.info()
    except MarketDataError:  # NATS is away
        return None
    return None if info is None else info.created


async def _apply_all(log: Log, revocations: Revocations, caught_up: asyncio.Event) -> None:
    after = 0
    while records := await _next(log, after):
        _apply(records, revocations)
        after = records[-1].sequence
    caught_up.set()
    async for records in log.follow(after):
        _apply(records, revocations)


async def _next(log: Log, after: int) -> list[Record]:
    while True:
        try:
            return await log.read(after)
        except MarketDataError:
            await asyncio.sleep(_RETRY_S)


def _apply(records: Iterable[Record], revocations: Revocations) -> None:
    for record in records:
        try:
            revocation = Revocation.decode(record.data)
        except (ValueError, KeyError):  # of a newer release; what is known here goes on
            _LOG.exception("a revocation that is not understood", sequence=record.sequence)
            continue
        revocations.apply(revocation)
        _LOG.debug("revoked", what=revocation.what, id=revocation.id)
