import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from marketdata.v1 import access_pb2 as _access_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("archived_sequence", "tape_sequence", "tape_first_sequence", "lag", "commit_time", "tables", "problem")
    ARCHIVED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TAPE_FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TIME_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    archived_sequence: int
    tape_sequence: int
    tape_first_sequence: int
    lag: _duration_pb2.Duration
    commit_time: _timestamp_pb2.Timestamp
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    problem: str
    def __init__(self, archived_sequence: _Optional[int] = ..., tape_sequence: _Optional[int] = ..., tape_first_sequence: _Optional[int] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., commit_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("name", "uri", "version", "rows", "files", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    uri: str
    version: int
    rows: int
    files: int
    bytes: int
    def __init__(self, name: _Optional[str] = ..., uri: _Optional[str] = ..., version: _Optional[int] = ..., rows: _Optional[int] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class CompactResponse(_message.Message):
    __slots__ = ("files_before", "files_after", "rows")
    FILES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    FILES_AFTER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    files_before: int
    files_after: int
    rows: int
    def __init__(self, files_before: _Optional[int] = ..., files_after: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("dataset", "first_sequence", "last_sequence")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    first_sequence: int
    last_sequence: int
    def __init__(self, dataset: _Optional[str] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("equal", "tape_digest", "lake_digest", "tape_rows", "lake_rows", "first_sequence", "last_sequence", "complete", "next_sequence")
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    TAPE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LAKE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAPE_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAKE_ROWS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    equal: bool
    tape_digest: str
    lake_digest: str
    tape_rows: int
    lake_rows: int
    first_sequence: int
    last_sequence: int
    complete: bool
    next_sequence: int
    def __init__(self, equal: _Optional[bool] = ..., tape_digest: _Optional[str] = ..., lake_digest: _Optional[str] = ..., tape_rows: _Optional[int] = ..., lake_rows: _Optional[int] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., complete: _Optional[bool] = ..., next_sequence: _Optional[int] = ...) -> None: ...
