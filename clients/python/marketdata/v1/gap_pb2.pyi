import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketdata.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Gap(_message.Message):
    __slots__ = ("producer", "cause", "state", "first_sequence", "last_sequence", "open_time", "close_time", "instrument_id", "kind")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[Gap.Cause]
        CAUSE_SEQUENCE: _ClassVar[Gap.Cause]
        CAUSE_TAPE_DAMAGED: _ClassVar[Gap.Cause]
        CAUSE_DISCONNECTED: _ClassVar[Gap.Cause]
    CAUSE_UNSPECIFIED: Gap.Cause
    CAUSE_SEQUENCE: Gap.Cause
    CAUSE_TAPE_DAMAGED: Gap.Cause
    CAUSE_DISCONNECTED: Gap.Cause
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Gap.State]
        STATE_OPEN: _ClassVar[Gap.State]
        STATE_CLOSED: _ClassVar[Gap.State]
    STATE_UNSPECIFIED: Gap.State
    STATE_OPEN: Gap.State
    STATE_CLOSED: Gap.State
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    producer: str
    cause: Gap.Cause
    state: Gap.State
    first_sequence: int
    last_sequence: int
    open_time: _timestamp_pb2.Timestamp
    close_time: _timestamp_pb2.Timestamp
    instrument_id: int
    kind: _batch_pb2.Kind
    def __init__(self, producer: _Optional[str] = ..., cause: _Optional[_Union[Gap.Cause, str]] = ..., state: _Optional[_Union[Gap.State, str]] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., open_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., close_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., instrument_id: _Optional[int] = ..., kind: _Optional[_Union[_batch_pb2.Kind, str]] = ...) -> None: ...
