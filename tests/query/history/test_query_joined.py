"""Trades joined with the quotes before them, against pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from marketdata.columns import NANOS, Batch, Kind, make_batch
from marketdata.query.v1.query_service_pb2 import ListTradesWithQuotesRequest, TradeWithQuote
from marketdata.v1.batch_pb2 import TradeAction, TradeView
from mda.lake.layout import Placed
from mda.query.history.joined import trades_with_quotes
from mda.query.history.listing import Listing
from mda.query.history.methods import HistoryMethods
from mda.query.history.source import Source, Wanted
from mda.query.history.workers import Workers
from tests.query.feeding import make_feed, opened
from tests.tape.helpers import NOW_NS, quotes, trades

ROWS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=12)


def _placed(kind: Kind, rows: list[tuple[int, int]], epoch: int, sequence: int) -> Placed:
    count = len(rows)
    columns: dict[str, Any] = {
        "instrument_id": [row[0] for row in rows],
        "ts_event": [row[1] for row in rows],
        "sequence": [sequence * 100 + row for row in range(count)],
    }
    if kind is Kind.TRADE:
        columns["price"] = np.ones(count)
    batch = make_batch(kind, columns)
    return Placed(batch, epoch, np.full(count, sequence, dtype=np.int64), np.arange(count, dtype=np.int32))


def _frame(parts: list[Placed]) -> pd.DataFrame:
    frames = [
        pd.DataFrame({name: part.batch[name] for name in ("instrument_id", "ts_event", "sequence")}).assign(
            epoch=part.epoch, place=part.sequence, row=part.row
        )
        for part in parts
    ]
    return pd.concat(frames).sort_values(["ts_event", "epoch", "place", "row"], kind="stable")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    quote_parts=st.lists(st.tuples(ROWS, st.integers(1, 2)), min_size=1, max_size=5),
    trade_rows=ROWS.filter(bool),
    tolerance=st.none() | st.integers(0, 20),
)
def test_each_trade_has_the_quote_of_the_oracle(
    quote_parts: list[tuple[list[tuple[int, int]], int]], trade_rows: list[tuple[int, int]], tolerance: int | None
) -> None:
    parts = [_placed(Kind.QUOTE, rows, epoch, number) for number, (rows, epoch) in enumerate(quote_parts) if rows]
    taken = _placed(Kind.TRADE, trade_rows, 2, 99)
    source = Source(2, 0, None, None, {Kind.QUOTE: parts, Kind.TRADE: [taken]})
    joined = trades_with_quotes(source, Listing(Wanted(Kind.TRADE), 100), tolerance)
    found = _sequences(joined.quotes, joined.rows)
    expected = [-1] * len(trade_rows)
    if parts:
        by: dict[str, Any] = {"on": "ts_event", "by": "instrument_id", "suffixes": ("", "_quote")}
        merged = pd.merge_asof(_frame([taken]), _frame(parts), tolerance=tolerance, **by)
        expected = [-1 if pd.isna(value) else int(value) for value in merged["sequence_quote"]]
    assert found == expected


def _sequences(batch: Batch | None, rows: np.ndarray[Any, Any]) -> list[int]:
    return [-1 if batch is None or row < 0 else int(batch["sequence"][row]) for row in rows]


async def _listed(client: Client, **options: Any) -> list[TradeWithQuote]:
    """Ask for the trades of a dataset, in pages of two."""
    feed = await make_feed(client)
    await feed.write(quotes(1, 2, ts_event=[NOW_NS, NOW_NS + 10], instrument_id=[1, 2]))
    await feed.write(trades(3, 3, ts_event=[NOW_NS - 1, NOW_NS + 5, NOW_NS + 20], instrument_id=[1, 1, 2]))
    cancel = {"refers_to": [4], "action": [TradeAction.TRADE_ACTION_CANCEL]}
    await feed.write(trades(6, ts_event=[NOW_NS + 30], instrument_id=[1], **cancel))
    rows: list[TradeWithQuote] = []
    async with opened(feed) as hub:

        class Hubs:
            async def get(self, _name: str) -> Any:
                return hub

        methods = HistoryMethods(Hubs(), Workers())  # type: ignore[arg-type]
        request = ListTradesWithQuotesRequest(
            dataset=feed.dataset, start=Timestamp(seconds=NOW_NS // NANOS - 1), page_size=2, **options
        )
        while True:
            page = await methods.list_trades_with_quotes(request)
            rows += page.rows
            request.page_token = page.next_page_token
            if not request.page_token:
                return rows


def _brief(rows: list[TradeWithQuote]) -> list[tuple[int, int | None]]:
    return [(row.trade.sequence, row.quote.sequence if row.HasField("quote") else None) for row in rows]


async def test_pages_of_trades_with_quotes(client: Client) -> None:
    assert _brief(await _listed(client)) == [(3, None), (4, 1), (5, 2), (6, 1)]


async def test_a_quote_that_is_too_old_is_left_out(client: Client) -> None:
    assert _brief(await _listed(client, tolerance=Duration(nanos=5))) == [(3, None), (4, 1), (5, None), (6, None)]


async def test_trades_as_they_stand(client: Client) -> None:
    view = TradeView.TRADE_VIEW_CORRECTED
    assert _brief(await _listed(client, view=view, symbols=["A", "B"])) == [(3, None), (5, 2)]


async def test_no_trades(client: Client) -> None:
    assert await _listed(client, symbols=["C"]) == []
