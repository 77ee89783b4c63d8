"""What one client may still use, for the call that is being served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from marketdata.v1 import error_reason_pb2 as reasons
from mda.market.errors import MarketDataError
from mda.market.quotas import Quotas
from mda.runtime.telemetry import CLIENT_ROWS, client_label
from mda.runtime.usage.meter import CallsLeft, Meter


async def _nothing_to_look_up(_client: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Usage:
    """What all clients use, shared with the other processes or not.

    Parameters
    ----------
    meter
        What they use.
    look_up
        Looks up a client's rows of today, where the meter does not know them.
    """

    meter: Meter = field(default_factory=Meter)
    look_up: Callable[[str], Awaitable[None]] = _nothing_to_look_up

    def account(self, client: str, quotas: Quotas) -> Account:
        """Return a client's part of it."""
        return Account(self, client, quotas)


@dataclass(frozen=True, slots=True)
class Account:
    """A client's part of what is used.

    Parameters
    ----------
    usage
        What all clients use.
    client
        The client.
    quotas
        What it may use, as its token says.
    """

    usage: Usage
    client: str
    quotas: Quotas

    async def look_up_rows(self) -> None:
        """Look up the rows of today, where they are limited and were not heard of just now."""
        if self.quotas.rows_per_day is not None and not self.usage.meter.knows_rows(self.client):
            await self.usage.look_up(self.client)

    def take_call(self) -> CallsLeft | None:
        """Count a call. As in `Meter.take_call`."""
        return self.usage.meter.take_call(self.client, self.quotas)

    def stream(self) -> AbstractContextManager[None]:
        """Count a stream while the body runs. As in `Meter.stream`."""
        return self.usage.meter.stream(self.client, self.quotas)

    @property
    def calls_left(self) -> CallsLeft | None:
        """How many calls are left; None where there is no limit."""
        return self.usage.meter.calls_left(self.client, self.quotas)

    def count_rows(self, rows: int) -> None:
        """Count rows that were delivered, or published."""
        self.usage.meter.count_rows(self.client, rows)
        CLIENT_ROWS.labels(client_label(self.client)).inc(rows)

    def require_rows(self) -> None:
        """Check that there are rows left today. Errors as in `Meter.require_rows`."""
        self.usage.meter.require_rows(self.client, self.quotas)

    @property
    def rows_left(self) -> int | None:
        """How many rows are left today; None where there is no limit."""
        most = self.quotas.rows_per_day
        return None if most is None else max(most - self.usage.meter.rows_today(self.client), 0)

    def require_symbols(self, symbols: int, field: str) -> None:
        """Check that a stream may have so many symbols.

        Raises
        ------
        MarketDataError
            TOO_MANY_SYMBOLS if not.
        """
        most = self.quotas.symbols_per_subscription
        if most is not None and symbols > most:
            raise MarketDataError(
                reasons.ERROR_REASON_TOO_MANY_SYMBOLS,
                f"{field}: a stream of the client may have {most:,} symbols; these make {symbols:,}. Ask for fewer.",
                field=field,
                limit=most,
            )
