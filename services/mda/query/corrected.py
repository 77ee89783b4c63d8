"""By what a reader is told trades as they stand, wherever on the tape it is."""

from __future__ import annotations

import asyncio
from typing import Final

from marketdata.columns import Kind
from mda.lake.errors import LakeError
from mda.market.all_corrections import AllCorrections
from mda.market.corrections import KnownCorrections
from mda.market.errors import archive_unavailable
from mda.query.history.source import EVERYTHING, Wanted, open_source
from mda.query.hub import Hub

_ALL: Final = Wanted(Kind.TRADE)


class CorrectedView:
    """What one reader knows of cancels and corrections.

    At the tape's end it goes by the newest ones, which its hub knows. Where some that
    stand after its place have been dropped of these it goes by all, which are read, and
    held in one piece for all such readers, until it is near the end.

    Parameters
    ----------
    hub
        The dataset.
    wanted
        Which trades it is told, if only those of some instruments or times: then what is
        read is less, and for it alone.
    """

    def __init__(self, hub: Hub, wanted: Wanted = _ALL) -> None:
        self._hub = hub
        self._wanted = wanted
        self._times = None if wanted.times == EVERYTHING else wanted.times
        self._all: AllCorrections | None = None

    @property
    def known(self) -> KnownCorrections:
        """What it knows."""
        return self._hub.corrections if self._all is None else self._all

    async def reach(self, place: int) -> None:
        """Know all that changes the trades after a place on the tape.

        Raises
        ------
        MarketDataError
            RANGE_TOO_LARGE if that is too much to be held; ARCHIVE_UNAVAILABLE; TAPE_UNAVAILABLE.
        """
        if place >= self._hub.corrections.complete_after:
            self._all = None
            return
        while self._all is None or not self._all.is_whole(place):
            self._all = None  # so that not both are held
            self._all = await self._read(place)

    def forget(self) -> None:
        """Forget what was read: the tape has lost its newest entries."""
        self._all = None

    async def _read(self, place: int) -> AllCorrections:
        if self._wanted.ids is not None or self._times is not None:
            return await self._find(place)
        return await self._hub.found.get(lambda found: found.is_whole(place), lambda: self._find(place))

    async def _find(self, place: int) -> AllCorrections:
        source = await open_source(self._hub, [Kind.TRADE], changes=self._times is None)
        try:
            return await asyncio.to_thread(source.finder.after, place, self._wanted.ids, self._times)
        except LakeError as error:
            raise archive_unavailable(self._hub.dataset, str(error)) from error
