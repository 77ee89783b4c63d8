from marketdata.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Instrument(_message.Message):
    __slots__ = ("symbol", "instrument_id", "tick_size_nanos", "negative_prices", "description")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TICK_SIZE_NANOS_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PRICES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    instrument_id: int
    tick_size_nanos: int
    negative_prices: bool
    description: str
    def __init__(self, symbol: _Optional[str] = ..., instrument_id: _Optional[int] = ..., tick_size_nanos: _Optional[int] = ..., negative_prices: _Optional[bool] = ..., description: _Optional[str] = ...) -> None: ...

class InstrumentList(_message.Message):
    __slots__ = ("instruments", "policy")
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedCompositeFieldContainer[Instrument]
    policy: _policy_pb2.Policy
    def __init__(self, instruments: _Optional[_Iterable[_Union[Instrument, _Mapping]]] = ..., policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ...) -> None: ...
