from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_QUOTE: _ClassVar[Kind]
    KIND_TRADE: _ClassVar[Kind]
    KIND_BAR: _ClassVar[Kind]

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_BUY: _ClassVar[Side]
    SIDE_SELL: _ClassVar[Side]

class TradeAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADE_ACTION_UNSPECIFIED: _ClassVar[TradeAction]
    TRADE_ACTION_CANCEL: _ClassVar[TradeAction]
    TRADE_ACTION_CORRECT: _ClassVar[TradeAction]

class TradeView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADE_VIEW_UNSPECIFIED: _ClassVar[TradeView]
    TRADE_VIEW_RAW: _ClassVar[TradeView]
    TRADE_VIEW_CORRECTED: _ClassVar[TradeView]
KIND_UNSPECIFIED: Kind
KIND_QUOTE: Kind
KIND_TRADE: Kind
KIND_BAR: Kind
SIDE_UNSPECIFIED: Side
SIDE_BUY: Side
SIDE_SELL: Side
TRADE_ACTION_UNSPECIFIED: TradeAction
TRADE_ACTION_CANCEL: TradeAction
TRADE_ACTION_CORRECT: TradeAction
TRADE_VIEW_UNSPECIFIED: TradeView
TRADE_VIEW_RAW: TradeView
TRADE_VIEW_CORRECTED: TradeView

class Batch(_message.Message):
    __slots__ = ("rows", "quotes", "trades", "bars")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    quotes: QuoteColumns
    trades: TradeColumns
    bars: BarColumns
    def __init__(self, rows: _Optional[int] = ..., quotes: _Optional[_Union[QuoteColumns, _Mapping]] = ..., trades: _Optional[_Union[TradeColumns, _Mapping]] = ..., bars: _Optional[_Union[BarColumns, _Mapping]] = ...) -> None: ...

class QuoteColumns(_message.Message):
    __slots__ = ("instrument_id", "ts_event", "ts_recv", "sequence", "bid_price", "bid_size", "ask_price", "ask_size", "verdicts")
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TS_EVENT_FIELD_NUMBER: _ClassVar[int]
    TS_RECV_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BID_PRICE_FIELD_NUMBER: _ClassVar[int]
    BID_SIZE_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICE_FIELD_NUMBER: _ClassVar[int]
    ASK_SIZE_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    instrument_id: _containers.RepeatedScalarFieldContainer[int]
    ts_event: _containers.RepeatedScalarFieldContainer[int]
    ts_recv: _containers.RepeatedScalarFieldContainer[int]
    sequence: _containers.RepeatedScalarFieldContainer[int]
    bid_price: _containers.RepeatedScalarFieldContainer[int]
    bid_size: _containers.RepeatedScalarFieldContainer[int]
    ask_price: _containers.RepeatedScalarFieldContainer[int]
    ask_size: _containers.RepeatedScalarFieldContainer[int]
    verdicts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, instrument_id: _Optional[_Iterable[int]] = ..., ts_event: _Optional[_Iterable[int]] = ..., ts_recv: _Optional[_Iterable[int]] = ..., sequence: _Optional[_Iterable[int]] = ..., bid_price: _Optional[_Iterable[int]] = ..., bid_size: _Optional[_Iterable[int]] = ..., ask_price: _Optional[_Iterable[int]] = ..., ask_size: _Optional[_Iterable[int]] = ..., verdicts: _Optional[_Iterable[int]] = ...) -> None: ...

class TradeColumns(_message.Message):
    __slots__ = ("instrument_id", "ts_event", "ts_recv", "sequence", "price", "size", "side", "verdicts", "action", "refers_to")
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TS_EVENT_FIELD_NUMBER: _ClassVar[int]
    TS_RECV_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REFERS_TO_FIELD_NUMBER: _ClassVar[int]
    instrument_id: _containers.RepeatedScalarFieldContainer[int]
    ts_event: _containers.RepeatedScalarFieldContainer[int]
    ts_recv: _containers.RepeatedScalarFieldContainer[int]
    sequence: _containers.RepeatedScalarFieldContainer[int]
    price: _containers.RepeatedScalarFieldContainer[int]
    size: _containers.RepeatedScalarFieldContainer[int]
    side: _containers.RepeatedScalarFieldContainer[int]
    verdicts: _containers.RepeatedScalarFieldContainer[int]
    action: _containers.RepeatedScalarFieldContainer[int]
    refers_to: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, instrument_id: _Optional[_Iterable[int]] = ..., ts_event: _Optional[_Iterable[int]] = ..., ts_recv: _Optional[_Iterable[int]] = ..., sequence: _Optional[_Iterable[int]] = ..., price: _Optional[_Iterable[int]] = ..., size: _Optional[_Iterable[int]] = ..., side: _Optional[_Iterable[int]] = ..., verdicts: _Optional[_Iterable[int]] = ..., action: _Optional[_Iterable[int]] = ..., refers_to: _Optional[_Iterable[int]] = ...) -> None: ...

class BarColumns(_message.Message):
    __slots__ = ("instrument_id", "ts_event", "ts_recv", "sequence", "interval_ns", "open", "high", "low", "close", "volume", "trade_count", "verdicts")
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TS_EVENT_FIELD_NUMBER: _ClassVar[int]
    TS_RECV_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_NS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    instrument_id: _containers.RepeatedScalarFieldContainer[int]
    ts_event: _containers.RepeatedScalarFieldContainer[int]
    ts_recv: _containers.RepeatedScalarFieldContainer[int]
    sequence: _containers.RepeatedScalarFieldContainer[int]
    interval_ns: _containers.RepeatedScalarFieldContainer[int]
    open: _containers.RepeatedScalarFieldContainer[int]
    high: _containers.RepeatedScalarFieldContainer[int]
    low: _containers.RepeatedScalarFieldContainer[int]
    close: _containers.RepeatedScalarFieldContainer[int]
    volume: _containers.RepeatedScalarFieldContainer[int]
    trade_count: _containers.RepeatedScalarFieldContainer[int]
    verdicts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, instrument_id: _Optional[_Iterable[int]] = ..., ts_event: _Optional[_Iterable[int]] = ..., ts_recv: _Optional[_Iterable[int]] = ..., sequence: _Optional[_Iterable[int]] = ..., interval_ns: _Optional[_Iterable[int]] = ..., open: _Optional[_Iterable[int]] = ..., high: _Optional[_Iterable[int]] = ..., low: _Optional[_Iterable[int]] = ..., close: _Optional[_Iterable[int]] = ..., volume: _Optional[_Iterable[int]] = ..., trade_count: _Optional[_Iterable[int]] = ..., verdicts: _Optional[_Iterable[int]] = ...) -> None: ...
