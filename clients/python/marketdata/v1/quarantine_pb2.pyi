import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketdata.v1 import bar_pb2 as _bar_pb2
from marketdata.v1 import batch_pb2 as _batch_pb2
from marketdata.v1 import quote_pb2 as _quote_pb2
from marketdata.v1 import trade_pb2 as _trade_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QuarantinedRows(_message.Message):
    __slots__ = ("id", "producer", "batch_number", "time", "quotes", "trades", "instrument_ids", "tape_sequence", "bars")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    BATCH_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_IDS_FIELD_NUMBER: _ClassVar[int]
    TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    id: str
    producer: str
    batch_number: int
    time: _timestamp_pb2.Timestamp
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    trades: _containers.RepeatedCompositeFieldContainer[_trade_pb2.Trade]
    instrument_ids: _containers.RepeatedScalarFieldContainer[int]
    tape_sequence: int
    bars: _containers.RepeatedCompositeFieldContainer[_bar_pb2.Bar]
    def __init__(self, id: _Optional[str] = ..., producer: _Optional[str] = ..., batch_number: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ..., trades: _Optional[_Iterable[_Union[_trade_pb2.Trade, _Mapping]]] = ..., instrument_ids: _Optional[_Iterable[int]] = ..., tape_sequence: _Optional[int] = ..., bars: _Optional[_Iterable[_Union[_bar_pb2.Bar, _Mapping]]] = ...) -> None: ...

class QuarantineRecord(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[SetAside]
    def __init__(self, items: _Optional[_Iterable[_Union[SetAside, _Mapping]]] = ...) -> None: ...

class SetAside(_message.Message):
    __slots__ = ("number", "positions", "batch")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    number: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    batch: _batch_pb2.Batch
    def __init__(self, number: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ...) -> None: ...
