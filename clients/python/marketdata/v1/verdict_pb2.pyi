from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_UNKNOWN_INSTRUMENT: _ClassVar[Verdict]
    VERDICT_NOT_A_PRICE: _ClassVar[Verdict]
    VERDICT_CROSSED: _ClassVar[Verdict]
    VERDICT_OUT_OF_ORDER: _ClassVar[Verdict]
    VERDICT_LOCKED: _ClassVar[Verdict]
    VERDICT_STALE: _ClassVar[Verdict]
    VERDICT_FUTURE: _ClassVar[Verdict]
    VERDICT_OUTLIER: _ClassVar[Verdict]
    VERDICT_DUPLICATE_SEQUENCE: _ClassVar[Verdict]
    VERDICT_MISSING_SIDE: _ClassVar[Verdict]
    VERDICT_RELEASED: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_UNKNOWN_INSTRUMENT: Verdict
VERDICT_NOT_A_PRICE: Verdict
VERDICT_CROSSED: Verdict
VERDICT_OUT_OF_ORDER: Verdict
VERDICT_LOCKED: Verdict
VERDICT_STALE: Verdict
VERDICT_FUTURE: Verdict
VERDICT_OUTLIER: Verdict
VERDICT_DUPLICATE_SEQUENCE: Verdict
VERDICT_MISSING_SIDE: Verdict
VERDICT_RELEASED: Verdict
