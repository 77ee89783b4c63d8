from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_FIELD: _ClassVar[ErrorReason]
    ERROR_REASON_MALFORMED_MESSAGE: _ClassVar[ErrorReason]
    ERROR_REASON_RAGGED_COLUMN: _ClassVar[ErrorReason]
    ERROR_REASON_EMPTY_BATCH: _ClassVar[ErrorReason]
    ERROR_REASON_BATCH_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_TIME_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_A_PRICE: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_DATASET: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_INSTRUMENT: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_TOKEN: _ClassVar[ErrorReason]
    ERROR_REASON_MISSING_SCOPE: _ClassVar[ErrorReason]
    ERROR_REASON_BATCH_OUT_OF_SEQUENCE: _ClassVar[ErrorReason]
    ERROR_REASON_FENCED: _ClassVar[ErrorReason]
    ERROR_REASON_OUT_OF_TURN: _ClassVar[ErrorReason]
    ERROR_REASON_TAPE_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_TAPE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_EXPIRED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_CURSOR: _ClassVar[ErrorReason]
    ERROR_REASON_CURSOR_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_ISSUER_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_INSTRUMENT_ID: _ClassVar[ErrorReason]
    ERROR_REASON_ROW_REFUSED: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_CORRECTION: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_FIELD: ErrorReason
ERROR_REASON_MALFORMED_MESSAGE: ErrorReason
ERROR_REASON_RAGGED_COLUMN: ErrorReason
ERROR_REASON_EMPTY_BATCH: ErrorReason
ERROR_REASON_BATCH_TOO_LARGE: ErrorReason
ERROR_REASON_TIME_OUT_OF_RANGE: ErrorReason
ERROR_REASON_NOT_A_PRICE: ErrorReason
ERROR_REASON_UNKNOWN_DATASET: ErrorReason
ERROR_REASON_UNKNOWN_INSTRUMENT: ErrorReason
ERROR_REASON_INVALID_TOKEN: ErrorReason
ERROR_REASON_MISSING_SCOPE: ErrorReason
ERROR_REASON_BATCH_OUT_OF_SEQUENCE: ErrorReason
ERROR_REASON_FENCED: ErrorReason
ERROR_REASON_OUT_OF_TURN: ErrorReason
ERROR_REASON_TAPE_FULL: ErrorReason
ERROR_REASON_TAPE_UNAVAILABLE: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_TOKEN_EXPIRED: ErrorReason
ERROR_REASON_INVALID_CURSOR: ErrorReason
ERROR_REASON_CURSOR_OUT_OF_RANGE: ErrorReason
ERROR_REASON_ISSUER_UNAVAILABLE: ErrorReason
ERROR_REASON_UNKNOWN_INSTRUMENT_ID: ErrorReason
ERROR_REASON_ROW_REFUSED: ErrorReason
ERROR_REASON_BAD_CORRECTION: ErrorReason
