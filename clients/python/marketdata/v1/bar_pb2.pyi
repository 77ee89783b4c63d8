import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketdata.v1 import verdict_pb2 as _verdict_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BarSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAR_SOURCE_UNSPECIFIED: _ClassVar[BarSource]
    BAR_SOURCE_TRADES: _ClassVar[BarSource]
    BAR_SOURCE_QUOTE_MIDS: _ClassVar[BarSource]
    BAR_SOURCE_VENUE: _ClassVar[BarSource]

class BarFill(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAR_FILL_UNSPECIFIED: _ClassVar[BarFill]
    BAR_FILL_NONE: _ClassVar[BarFill]
    BAR_FILL_NULL: _ClassVar[BarFill]
    BAR_FILL_PREVIOUS: _ClassVar[BarFill]
BAR_SOURCE_UNSPECIFIED: BarSource
BAR_SOURCE_TRADES: BarSource
BAR_SOURCE_QUOTE_MIDS: BarSource
BAR_SOURCE_VENUE: BarSource
BAR_FILL_UNSPECIFIED: BarFill
BAR_FILL_NONE: BarFill
BAR_FILL_NULL: BarFill
BAR_FILL_PREVIOUS: BarFill

class Bar(_message.Message):
    __slots__ = ("symbol", "start_time", "end_time", "open", "high", "low", "close", "volume", "count", "vwap", "state", "empty", "in_gap", "first_sequence", "last_sequence", "verdicts")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Bar.State]
        STATE_FINAL: _ClassVar[Bar.State]
        STATE_PARTIAL: _ClassVar[Bar.State]
    STATE_UNSPECIFIED: Bar.State
    STATE_FINAL: Bar.State
    STATE_PARTIAL: Bar.State
    class Empty(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EMPTY_UNSPECIFIED: _ClassVar[Bar.Empty]
        EMPTY_NO_ROWS: _ClassVar[Bar.Empty]
        EMPTY_CLOSED: _ClassVar[Bar.Empty]
        EMPTY_GAP: _ClassVar[Bar.Empty]
    EMPTY_UNSPECIFIED: Bar.Empty
    EMPTY_NO_ROWS: Bar.Empty
    EMPTY_CLOSED: Bar.Empty
    EMPTY_GAP: Bar.Empty
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VWAP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    IN_GAP_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    open: str
    high: str
    low: str
    close: str
    volume: str
    count: int
    vwap: str
    state: Bar.State
    empty: Bar.Empty
    in_gap: bool
    first_sequence: int
    last_sequence: int
    verdicts: _containers.RepeatedScalarFieldContainer[_verdict_pb2.Verdict]
    def __init__(self, symbol: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., close: _Optional[str] = ..., volume: _Optional[str] = ..., count: _Optional[int] = ..., vwap: _Optional[str] = ..., state: _Optional[_Union[Bar.State, str]] = ..., empty: _Optional[_Union[Bar.Empty, str]] = ..., in_gap: _Optional[bool] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., verdicts: _Optional[_Iterable[_Union[_verdict_pb2.Verdict, str]]] = ...) -> None: ...
