"""DBN files that the tests encode themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import databento_dbn as dbn

MAPPINGS = {"ESU4": 42, "NQU4": 7}
UNDEFINED = dbn.UNDEF_PRICE


def metadata(
    schema: dbn.Schema | None,
    mappings: Mapping[str, int | str] = MAPPINGS,
    stype_out: dbn.SType = dbn.SType.INSTRUMENT_ID,
) -> bytes:
    """Return the head of a file, with a mapping of each symbol for a day, and none for the day after."""
    days = [dt.date(2024, 7, day) for day in (1, 2, 3)]

    def intervals(symbol: int | str) -> list[Any]:
        return [
            SimpleNamespace(start_date=days[0], end_date=days[1], symbol=str(symbol)),
            SimpleNamespace(start_date=days[1], end_date=days[2], symbol=""),
        ]

    return dbn.Metadata(
        dataset="GLBX.MDP3",
        start=0,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=stype_out,
        schema=schema,
        symbols=list(mappings),
        mappings=[SimpleNamespace(raw_symbol=name, intervals=intervals(to)) for name, to in mappings.items()],
        end=10,
    ).encode()


def trade(**values: Any) -> bytes:
    given = {
        "publisher_id": 1,
        "instrument_id": 42,
        "ts_event": 1_000,
        "price": 5_495_250_000_000,
        "size": 3,
        "action": dbn.Action.TRADE,
        "side": dbn.Side.BID,
        "depth": 0,
        "ts_recv": 2_000,
        "sequence": 9,
    }
    return bytes(dbn.TradeMsg(**(given | values)))


def quote(bid: tuple[int, int], ask: tuple[int, int], **values: Any) -> bytes:
    given = {
        "publisher_id": 1,
        "instrument_id": 42,
        "ts_event": 1_000,
        "price": 1,
        "size": 1,
        "action": dbn.Action.ADD,
        "side": dbn.Side.BID,
        "depth": 0,
        "ts_recv": 2_000,
        "sequence": 9,
        "levels": dbn.BidAskPair(bid_px=bid[0], ask_px=ask[0], bid_sz=bid[1], ask_sz=ask[1], bid_ct=1, ask_ct=2),
    }
    return bytes(dbn.MBP1Msg(**(given | values)))


def ohlcv(**values: Any) -> bytes:
    given = {
        "rtype": dbn.RType.OHLCV_1M,
        "publisher_id": 1,
        "instrument_id": 42,
        "ts_event": 60_000_000_000,
        "open": 1,
        "high": 1,
        "low": 1,
        "close": 1,
        "volume": 1,
    }
    return bytes(dbn.OHLCVMsg(**(given | values)))


def definition(symbol: str, **values: Any) -> bytes:
    given = {
        "publisher_id": 1,
        "instrument_id": 42,
        "ts_event": 1_000,
        "ts_recv": 2_000,
        "min_price_increment": 250_000_000,
        "display_factor": 1_000_000_000,
        "raw_symbol": symbol,
        "asset": "ES",
        "security_type": "FUT",
        "instrument_class": dbn.InstrumentClass.FUTURE,
        "security_update_action": dbn.SecurityUpdateAction.ADD,
        "exchange": "XCME",
    }
    return bytes(dbn.InstrumentDefMsg(**(given | values)))
