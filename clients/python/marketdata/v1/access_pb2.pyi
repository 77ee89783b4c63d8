from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
ACCESS_FIELD_NUMBER: _ClassVar[int]
access: _descriptor.FieldDescriptor

class Access(_message.Message):
    __slots__ = ("scope", "public", "any_client", "no_dataset", "past", "rows")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    ANY_CLIENT_FIELD_NUMBER: _ClassVar[int]
    NO_DATASET_FIELD_NUMBER: _ClassVar[int]
    PAST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    scope: str
    public: bool
    any_client: bool
    no_dataset: bool
    past: bool
    rows: str
    def __init__(self, scope: _Optional[str] = ..., public: _Optional[bool] = ..., any_client: _Optional[bool] = ..., no_dataset: _Optional[bool] = ..., past: _Optional[bool] = ..., rows: _Optional[str] = ...) -> None: ...
