import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketdata.v1 import batch_pb2 as _batch_pb2
from marketdata.v1 import verdict_pb2 as _verdict_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Trade(_message.Message):
    __slots__ = ("symbol", "event_time", "receive_time", "sequence", "price", "size", "side", "verdicts", "action", "refers_to")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REFERS_TO_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    event_time: _timestamp_pb2.Timestamp
    receive_time: _timestamp_pb2.Timestamp
    sequence: int
    price: str
    size: str
    side: _batch_pb2.Side
    verdicts: _containers.RepeatedScalarFieldContainer[_verdict_pb2.Verdict]
    action: _batch_pb2.TradeAction
    refers_to: int
    def __init__(self, symbol: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., receive_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sequence: _Optional[int] = ..., price: _Optional[str] = ..., size: _Optional[str] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ..., verdicts: _Optional[_Iterable[_Union[_verdict_pb2.Verdict, str]]] = ..., action: _Optional[_Union[_batch_pb2.TradeAction, str]] = ..., refers_to: _Optional[int] = ...) -> None: ...
