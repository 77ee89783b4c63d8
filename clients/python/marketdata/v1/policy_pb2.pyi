import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("crossed", "locked", "out_of_order", "stale", "future", "outlier", "duplicate_sequence", "missing_side", "unknown_instrument", "not_a_price", "stale_after", "future_after", "outlier_basis_points", "sequence_rule")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[Policy.Action]
        ACTION_FLAG: _ClassVar[Policy.Action]
        ACTION_QUARANTINE: _ClassVar[Policy.Action]
        ACTION_REJECT: _ClassVar[Policy.Action]
        ACTION_IGNORE: _ClassVar[Policy.Action]
    ACTION_UNSPECIFIED: Policy.Action
    ACTION_FLAG: Policy.Action
    ACTION_QUARANTINE: Policy.Action
    ACTION_REJECT: Policy.Action
    ACTION_IGNORE: Policy.Action
    class SequenceRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEQUENCE_RULE_UNSPECIFIED: _ClassVar[Policy.SequenceRule]
        SEQUENCE_RULE_NONE: _ClassVar[Policy.SequenceRule]
        SEQUENCE_RULE_CONTIGUOUS: _ClassVar[Policy.SequenceRule]
    SEQUENCE_RULE_UNSPECIFIED: Policy.SequenceRule
    SEQUENCE_RULE_NONE: Policy.SequenceRule
    SEQUENCE_RULE_CONTIGUOUS: Policy.SequenceRule
    CROSSED_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_ORDER_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    FUTURE_FIELD_NUMBER: _ClassVar[int]
    OUTLIER_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MISSING_SIDE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    NOT_A_PRICE_FIELD_NUMBER: _ClassVar[int]
    STALE_AFTER_FIELD_NUMBER: _ClassVar[int]
    FUTURE_AFTER_FIELD_NUMBER: _ClassVar[int]
    OUTLIER_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_RULE_FIELD_NUMBER: _ClassVar[int]
    crossed: Policy.Action
    locked: Policy.Action
    out_of_order: Policy.Action
    stale: Policy.Action
    future: Policy.Action
    outlier: Policy.Action
    duplicate_sequence: Policy.Action
    missing_side: Policy.Action
    unknown_instrument: Policy.Action
    not_a_price: Policy.Action
    stale_after: _duration_pb2.Duration
    future_after: _duration_pb2.Duration
    outlier_basis_points: int
    sequence_rule: Policy.SequenceRule
    def __init__(self, crossed: _Optional[_Union[Policy.Action, str]] = ..., locked: _Optional[_Union[Policy.Action, str]] = ..., out_of_order: _Optional[_Union[Policy.Action, str]] = ..., stale: _Optional[_Union[Policy.Action, str]] = ..., future: _Optional[_Union[Policy.Action, str]] = ..., outlier: _Optional[_Union[Policy.Action, str]] = ..., duplicate_sequence: _Optional[_Union[Policy.Action, str]] = ..., missing_side: _Optional[_Union[Policy.Action, str]] = ..., unknown_instrument: _Optional[_Union[Policy.Action, str]] = ..., not_a_price: _Optional[_Union[Policy.Action, str]] = ..., stale_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., future_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., outlier_basis_points: _Optional[int] = ..., sequence_rule: _Optional[_Union[Policy.SequenceRule, str]] = ...) -> None: ...
