"""Symbols and places in the requests of row methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mda.market.errors import invalid_field, unknown_symbol
from mda.query.hub import Hub

_LONGEST_SYMBOL: Final = 64


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


async def find_ids(hub: Hub, items: Sequence[str]) -> list[int] | None:
    """Return the ids of symbols in a unary request; None for all.

    Raises
    ------
    MarketDataError
        UNKNOWN_INSTRUMENT for the first that the dataset does not have.
    """
    symbols = split_symbols(items)
    if not symbols:
        return None
    ids: list[int] = []
    for position, found in enumerate(await hub.find_symbols(symbols)):
        if found is None:
            # What came may be long, and errors travel in headers.
            raise unknown_symbol(hub.dataset, symbols[position][:_LONGEST_SYMBOL], f"symbols[{position}]")
        ids.append(found)
    return ids
