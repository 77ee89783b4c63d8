"""Symbols and places in the requests of row methods."""

from __future__ import annotations

from collections.abc import Iterable

from mda.market.errors import invalid_field
from mda.query.hub import Hub


def split_symbols(items: Iterable[str]) -> list[str]:
    """Return symbols, each once, in order; an item may hold several, separated by commas."""
    symbols = (symbol.strip() for item in items for symbol in item.split(","))
    return list(dict.fromkeys(symbol for symbol in symbols if symbol))


async def start_position(hub: Hub, cursor: str, *, snapshot: bool) -> int:
    """Return the place at which a stream of rows begins.

    Raises
    ------
    MarketDataError
        INVALID_FIELD where both a cursor and a snapshot are asked for; otherwise as
        `Hub.place`.
    """
    if not cursor:
        return hub.head
    if snapshot:
        raise invalid_field("snapshot", "cursor", "snapshot: not together with `cursor`. Send one of the two.")
    return await hub.place(cursor, "cursor")
