import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from marketdata.v1 import access_pb2 as _access_pb2
from marketdata.v1 import bar_pb2 as _bar_pb2
from marketdata.v1 import batch_pb2 as _batch_pb2
from marketdata.v1 import gap_pb2 as _gap_pb2
from marketdata.v1 import instrument_pb2 as _instrument_pb2
from marketdata.v1 import quote_pb2 as _quote_pb2
from marketdata.v1 import trade_pb2 as _trade_pb2
from marketdata.v1 import verdict_pb2 as _verdict_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetLatestQuotesRequest(_message.Message):
    __slots__ = ("dataset", "symbols")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ...) -> None: ...

class GetLatestQuotesResponse(_message.Message):
    __slots__ = ("quotes",)
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    def __init__(self, quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ...) -> None: ...

class GetLatestTradesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "view")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    view: _batch_pb2.TradeView
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...

class GetLatestTradesResponse(_message.Message):
    __slots__ = ("trades",)
    TRADES_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[_trade_pb2.Trade]
    def __init__(self, trades: _Optional[_Iterable[_Union[_trade_pb2.Trade, _Mapping]]] = ...) -> None: ...

class StreamQuotesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "snapshot", "cursor")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    snapshot: bool
    cursor: str
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., snapshot: _Optional[bool] = ..., cursor: _Optional[str] = ...) -> None: ...

class StreamQuotesResponse(_message.Message):
    __slots__ = ("quotes", "cursor", "watermark", "end", "gaps")
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    cursor: str
    watermark: Watermark
    end: _status_pb2.Status
    gaps: _containers.RepeatedCompositeFieldContainer[_gap_pb2.Gap]
    def __init__(self, quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ..., cursor: _Optional[str] = ..., watermark: _Optional[_Union[Watermark, _Mapping]] = ..., end: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., gaps: _Optional[_Iterable[_Union[_gap_pb2.Gap, _Mapping]]] = ...) -> None: ...

class StreamTradesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "snapshot", "cursor", "view")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    snapshot: bool
    cursor: str
    view: _batch_pb2.TradeView
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., snapshot: _Optional[bool] = ..., cursor: _Optional[str] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...

class StreamTradesResponse(_message.Message):
    __slots__ = ("trades", "cursor", "watermark", "end", "gaps")
    TRADES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[_trade_pb2.Trade]
    cursor: str
    watermark: Watermark
    end: _status_pb2.Status
    gaps: _containers.RepeatedCompositeFieldContainer[_gap_pb2.Gap]
    def __init__(self, trades: _Optional[_Iterable[_Union[_trade_pb2.Trade, _Mapping]]] = ..., cursor: _Optional[str] = ..., watermark: _Optional[_Union[Watermark, _Mapping]] = ..., end: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., gaps: _Optional[_Iterable[_Union[_gap_pb2.Gap, _Mapping]]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("start", "subscribe", "unsubscribe", "reauthenticate")
    class Start(_message.Message):
        __slots__ = ("dataset", "now", "snapshot", "cursor", "time", "kinds", "symbols", "heartbeat", "conflate", "view")
        DATASET_FIELD_NUMBER: _ClassVar[int]
        NOW_FIELD_NUMBER: _ClassVar[int]
        SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
        CURSOR_FIELD_NUMBER: _ClassVar[int]
        TIME_FIELD_NUMBER: _ClassVar[int]
        KINDS_FIELD_NUMBER: _ClassVar[int]
        SYMBOLS_FIELD_NUMBER: _ClassVar[int]
        HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
        CONFLATE_FIELD_NUMBER: _ClassVar[int]
        VIEW_FIELD_NUMBER: _ClassVar[int]
        dataset: str
        now: bool
        snapshot: bool
        cursor: str
        time: _timestamp_pb2.Timestamp
        kinds: _containers.RepeatedScalarFieldContainer[_batch_pb2.Kind]
        symbols: SymbolSelection
        heartbeat: _duration_pb2.Duration
        conflate: _duration_pb2.Duration
        view: _batch_pb2.TradeView
        def __init__(self, dataset: _Optional[str] = ..., now: _Optional[bool] = ..., snapshot: _Optional[bool] = ..., cursor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kinds: _Optional[_Iterable[_Union[_batch_pb2.Kind, str]]] = ..., symbols: _Optional[_Union[SymbolSelection, _Mapping]] = ..., heartbeat: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., conflate: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...
    class Reauthenticate(_message.Message):
        __slots__ = ("token",)
        TOKEN_FIELD_NUMBER: _ClassVar[int]
        token: str
        def __init__(self, token: _Optional[str] = ...) -> None: ...
    START_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    REAUTHENTICATE_FIELD_NUMBER: _ClassVar[int]
    start: SubscribeRequest.Start
    subscribe: SymbolSelection
    unsubscribe: SymbolSelection
    reauthenticate: SubscribeRequest.Reauthenticate
    def __init__(self, start: _Optional[_Union[SubscribeRequest.Start, _Mapping]] = ..., subscribe: _Optional[_Union[SymbolSelection, _Mapping]] = ..., unsubscribe: _Optional[_Union[SymbolSelection, _Mapping]] = ..., reauthenticate: _Optional[_Union[SubscribeRequest.Reauthenticate, _Mapping]] = ...) -> None: ...

class SymbolSelection(_message.Message):
    __slots__ = ("symbols", "all")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    all: bool
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., all: _Optional[bool] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("batches", "cursor", "status", "instruments", "snapshot", "watermark", "draining", "end", "folded_rows", "gaps", "token_expiring")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    FOLDED_ROWS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRING_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Batch]
    cursor: str
    status: SubscriptionStatus
    instruments: _containers.RepeatedCompositeFieldContainer[_instrument_pb2.Instrument]
    snapshot: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Batch]
    watermark: Watermark
    draining: bool
    end: _status_pb2.Status
    folded_rows: int
    gaps: _containers.RepeatedCompositeFieldContainer[_gap_pb2.Gap]
    token_expiring: TokenExpiry
    def __init__(self, batches: _Optional[_Iterable[_Union[_batch_pb2.Batch, _Mapping]]] = ..., cursor: _Optional[str] = ..., status: _Optional[_Union[SubscriptionStatus, _Mapping]] = ..., instruments: _Optional[_Iterable[_Union[_instrument_pb2.Instrument, _Mapping]]] = ..., snapshot: _Optional[_Iterable[_Union[_batch_pb2.Batch, _Mapping]]] = ..., watermark: _Optional[_Union[Watermark, _Mapping]] = ..., draining: _Optional[bool] = ..., end: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., folded_rows: _Optional[int] = ..., gaps: _Optional[_Iterable[_Union[_gap_pb2.Gap, _Mapping]]] = ..., token_expiring: _Optional[_Union[TokenExpiry, _Mapping]] = ...) -> None: ...

class TokenExpiry(_message.Message):
    __slots__ = ("expire_time",)
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SubscriptionStatus(_message.Message):
    __slots__ = ("symbols", "all", "subscribed_count")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_COUNT_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedCompositeFieldContainer[SymbolStatus]
    all: bool
    subscribed_count: int
    def __init__(self, symbols: _Optional[_Iterable[_Union[SymbolStatus, _Mapping]]] = ..., all: _Optional[bool] = ..., subscribed_count: _Optional[int] = ...) -> None: ...

class SymbolStatus(_message.Message):
    __slots__ = ("symbol", "state", "instrument_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[SymbolStatus.State]
        STATE_SUBSCRIBED: _ClassVar[SymbolStatus.State]
        STATE_UNSUBSCRIBED: _ClassVar[SymbolStatus.State]
        STATE_UNKNOWN_SYMBOL: _ClassVar[SymbolStatus.State]
    STATE_UNSPECIFIED: SymbolStatus.State
    STATE_SUBSCRIBED: SymbolStatus.State
    STATE_UNSUBSCRIBED: SymbolStatus.State
    STATE_UNKNOWN_SYMBOL: SymbolStatus.State
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    state: SymbolStatus.State
    instrument_id: int
    def __init__(self, symbol: _Optional[str] = ..., state: _Optional[_Union[SymbolStatus.State, str]] = ..., instrument_id: _Optional[int] = ...) -> None: ...

class Watermark(_message.Message):
    __slots__ = ("time", "delivered_rows", "tape_sequence", "lag_entries", "conflated_rows", "lag", "rows_left_today")
    TIME_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_ROWS_FIELD_NUMBER: _ClassVar[int]
    TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAG_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    ROWS_LEFT_TODAY_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    delivered_rows: int
    tape_sequence: int
    lag_entries: int
    conflated_rows: int
    lag: _duration_pb2.Duration
    rows_left_today: int
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., delivered_rows: _Optional[int] = ..., tape_sequence: _Optional[int] = ..., lag_entries: _Optional[int] = ..., conflated_rows: _Optional[int] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rows_left_today: _Optional[int] = ...) -> None: ...

class GetDigestRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "kinds", "after", "until")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[_batch_pb2.Kind]
    after: str
    until: str
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[_batch_pb2.Kind, str]]] = ..., after: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...

class GetDigestResponse(_message.Message):
    __slots__ = ("digest", "rows", "cursor", "complete")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    rows: int
    cursor: str
    complete: bool
    def __init__(self, digest: _Optional[str] = ..., rows: _Optional[int] = ..., cursor: _Optional[str] = ..., complete: _Optional[bool] = ...) -> None: ...

class ListGapsRequest(_message.Message):
    __slots__ = ("dataset", "open_only", "page_size", "page_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    OPEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    open_only: bool
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., open_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGapsResponse(_message.Message):
    __slots__ = ("gaps", "next_page_token")
    GAPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gaps: _containers.RepeatedCompositeFieldContainer[_gap_pb2.Gap]
    next_page_token: str
    def __init__(self, gaps: _Optional[_Iterable[_Union[_gap_pb2.Gap, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets",)
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("name", "instruments", "kinds", "earliest", "latest")
    class KindRange(_message.Message):
        __slots__ = ("kind", "rows", "start_time", "end_time")
        KIND_FIELD_NUMBER: _ClassVar[int]
        ROWS_FIELD_NUMBER: _ClassVar[int]
        START_TIME_FIELD_NUMBER: _ClassVar[int]
        END_TIME_FIELD_NUMBER: _ClassVar[int]
        kind: _batch_pb2.Kind
        rows: int
        start_time: _timestamp_pb2.Timestamp
        end_time: _timestamp_pb2.Timestamp
        def __init__(self, kind: _Optional[_Union[_batch_pb2.Kind, str]] = ..., rows: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    instruments: int
    kinds: _containers.RepeatedCompositeFieldContainer[Dataset.KindRange]
    earliest: str
    latest: str
    def __init__(self, name: _Optional[str] = ..., instruments: _Optional[int] = ..., kinds: _Optional[_Iterable[_Union[Dataset.KindRange, _Mapping]]] = ..., earliest: _Optional[str] = ..., latest: _Optional[str] = ...) -> None: ...

class ListQuotesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "start", "end", "newest_first", "page_size", "page_token", "without_verdicts", "fields")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    newest_first: bool
    page_size: int
    page_token: str
    without_verdicts: _containers.RepeatedScalarFieldContainer[_verdict_pb2.Verdict]
    fields: _field_mask_pb2.FieldMask
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., newest_first: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., without_verdicts: _Optional[_Iterable[_Union[_verdict_pb2.Verdict, str]]] = ..., fields: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class ListQuotesResponse(_message.Message):
    __slots__ = ("quotes", "next_page_token")
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    next_page_token: str
    def __init__(self, quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListTradesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "start", "end", "newest_first", "page_size", "page_token", "without_verdicts", "fields", "view")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    newest_first: bool
    page_size: int
    page_token: str
    without_verdicts: _containers.RepeatedScalarFieldContainer[_verdict_pb2.Verdict]
    fields: _field_mask_pb2.FieldMask
    view: _batch_pb2.TradeView
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., newest_first: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., without_verdicts: _Optional[_Iterable[_Union[_verdict_pb2.Verdict, str]]] = ..., fields: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...

class ListTradesResponse(_message.Message):
    __slots__ = ("trades", "next_page_token")
    TRADES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[_trade_pb2.Trade]
    next_page_token: str
    def __init__(self, trades: _Optional[_Iterable[_Union[_trade_pb2.Trade, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListTradesWithQuotesRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "start", "end", "page_size", "page_token", "tolerance", "view")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    tolerance: _duration_pb2.Duration
    view: _batch_pb2.TradeView
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., tolerance: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...

class TradeWithQuote(_message.Message):
    __slots__ = ("trade", "quote")
    TRADE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    trade: _trade_pb2.Trade
    quote: _quote_pb2.Quote
    def __init__(self, trade: _Optional[_Union[_trade_pb2.Trade, _Mapping]] = ..., quote: _Optional[_Union[_quote_pb2.Quote, _Mapping]] = ...) -> None: ...

class ListTradesWithQuotesResponse(_message.Message):
    __slots__ = ("rows", "next_page_token")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[TradeWithQuote]
    next_page_token: str
    def __init__(self, rows: _Optional[_Iterable[_Union[TradeWithQuote, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListBarsRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "start", "end", "interval", "source", "fill", "session", "page_size", "page_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    interval: _duration_pb2.Duration
    source: _bar_pb2.BarSource
    fill: _bar_pb2.BarFill
    session: Session
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., source: _Optional[_Union[_bar_pb2.BarSource, str]] = ..., fill: _Optional[_Union[_bar_pb2.BarFill, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("time_zone", "opens", "closes", "weekdays")
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    OPENS_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    WEEKDAYS_FIELD_NUMBER: _ClassVar[int]
    time_zone: str
    opens: str
    closes: str
    weekdays: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, time_zone: _Optional[str] = ..., opens: _Optional[str] = ..., closes: _Optional[str] = ..., weekdays: _Optional[_Iterable[int]] = ...) -> None: ...

class ListBarsResponse(_message.Message):
    __slots__ = ("bars", "next_page_token")
    BARS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    bars: _containers.RepeatedCompositeFieldContainer[_bar_pb2.Bar]
    next_page_token: str
    def __init__(self, bars: _Optional[_Iterable[_Union[_bar_pb2.Bar, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StreamBarsRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "interval", "source", "session", "updates", "cursor")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    interval: _duration_pb2.Duration
    source: _bar_pb2.BarSource
    session: Session
    updates: _duration_pb2.Duration
    cursor: str
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., source: _Optional[_Union[_bar_pb2.BarSource, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., updates: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cursor: _Optional[str] = ...) -> None: ...

class StreamBarsResponse(_message.Message):
    __slots__ = ("bars", "cursor", "watermark", "end")
    BARS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    bars: _containers.RepeatedCompositeFieldContainer[_bar_pb2.Bar]
    cursor: str
    watermark: Watermark
    end: _status_pb2.Status
    def __init__(self, bars: _Optional[_Iterable[_Union[_bar_pb2.Bar, _Mapping]]] = ..., cursor: _Optional[str] = ..., watermark: _Optional[_Union[Watermark, _Mapping]] = ..., end: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetQuotesAsOfRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "time")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    time: _timestamp_pb2.Timestamp
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetQuotesAsOfResponse(_message.Message):
    __slots__ = ("quotes",)
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    def __init__(self, quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("dataset", "symbols", "start", "end", "kinds", "cursor", "view")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    kinds: _containers.RepeatedScalarFieldContainer[_batch_pb2.Kind]
    cursor: str
    view: _batch_pb2.TradeView
    def __init__(self, dataset: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kinds: _Optional[_Iterable[_Union[_batch_pb2.Kind, str]]] = ..., cursor: _Optional[str] = ..., view: _Optional[_Union[_batch_pb2.TradeView, str]] = ...) -> None: ...

class ScanResponse(_message.Message):
    __slots__ = ("batches", "cursor")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Batch]
    cursor: str
    def __init__(self, batches: _Optional[_Iterable[_Union[_batch_pb2.Batch, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...
