"""Streams of rows for people: `StreamQuotes` and `StreamTrades`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from marketdata.columns import Batch, Kind
from marketdata.query.v1.query_service_pb2 import StreamQuotesResponse, StreamTradesResponse, Watermark
from marketdata.v1.gap_pb2 import Gap
from marketdata.v1.quote_pb2 import Quote
from marketdata.v1.trade_pb2 import Trade
from mda.market.instruments import Directory
from mda.market.rows import quotes_of_batch, trades_of_batch
from mda.query.hub import Hub
from mda.query.ring import Piece, ReadEntry
from mda.query.selection import select
from mda.query.stream import Stream, serialize

_HEARTBEAT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RowForm:
    """How rows of a kind go into messages.

    Attributes
    ----------
    kind
        The kind.
    row
        The message of a row.
    response
        Makes the message of a stream.
    field
        Its field for rows: number 1.
    rows_of
        Makes rows of columns.
    """

    kind: Kind
    row: type[Message]
    response: Callable[..., Message]
    field: str
    rows_of: Callable[[Batch, Directory], Sequence[Any]]


QUOTES: Final = RowForm(Kind.QUOTE, Quote, StreamQuotesResponse, "quotes", quotes_of_batch)
TRADES: Final = RowForm(Kind.TRADE, Trade, StreamTradesResponse, "trades", trades_of_batch)


class RowStream(Stream):
    """A stream of rows of one kind.

    Parameters
    ----------
    hub, position, corrected
        As in `Stream`.
    form
        The kind.
    ids
        The wanted instruments; None for all.
    snapshot
        Whether to begin with the latest row of each.
    """

    def __init__(
        self,
        hub: Hub,
        position: int,
        form: RowForm,
        ids: Sequence[int] | None,
        *,
        snapshot: bool,
        corrected: bool = False,
    ) -> None:
        super().__init__(hub, position, _HEARTBEAT_S, corrected=corrected)
        self._form = form
        self._selection = select(None if ids is None else frozenset(ids), frozenset({form.kind}))
        if snapshot:
            latest = hub.latest_rows(form.kind, ids, corrected=corrected)
            rows = form.rows_of(latest, hub.directory) if latest is not None else []
            self.snapshot_rows = len(rows)
            self._outbox.append(serialize(form.response(**{form.field: rows}, cursor=self.cursor)))

    def _piece(self, entry: ReadEntry) -> Piece:
        corrections = self._corrections

        def encode() -> Piece:
            batches = self._selection.filter(entry.batches)
            if corrections is not None:
                batches = corrections.apply_to(batches)
            rows = [row for batch in batches for row in self._form.rows_of(batch, self.hub.directory)]
            message = self._form.response(**{self._form.field: rows}, gaps=entry.gaps)
            return Piece(serialize(message), len(rows))

        version = corrections.version if corrections is not None else 0
        return entry.made((self._form.field, self._selection, version), encode)

    def _gap_message(self, gap: Gap) -> bytes:
        return serialize(self._form.response(gaps=[gap], cursor=self.cursor))

    def _watermark_message(self, watermark: Watermark) -> bytes:
        return serialize(self._form.response(watermark=watermark, cursor=self.cursor))
