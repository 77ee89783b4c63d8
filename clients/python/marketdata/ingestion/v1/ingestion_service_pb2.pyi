from google.api import annotations_pb2 as _annotations_pb2
from marketdata.v1 import access_pb2 as _access_pb2
from marketdata.v1 import batch_pb2 as _batch_pb2
from marketdata.v1 import gap_pb2 as _gap_pb2
from marketdata.v1 import instrument_pb2 as _instrument_pb2
from marketdata.v1 import policy_pb2 as _policy_pb2
from marketdata.v1 import quarantine_pb2 as _quarantine_pb2
from marketdata.v1 import quote_pb2 as _quote_pb2
from marketdata.v1 import trade_pb2 as _trade_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AckLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACK_LEVEL_UNSPECIFIED: _ClassVar[AckLevel]
    ACK_LEVEL_ACCEPTED: _ClassVar[AckLevel]
    ACK_LEVEL_DURABLE: _ClassVar[AckLevel]
    ACK_LEVEL_VISIBLE: _ClassVar[AckLevel]
ACK_LEVEL_UNSPECIFIED: AckLevel
ACK_LEVEL_ACCEPTED: AckLevel
ACK_LEVEL_DURABLE: AckLevel
ACK_LEVEL_VISIBLE: AckLevel

class PublishRequest(_message.Message):
    __slots__ = ("open", "batch", "batches")
    class Open(_message.Message):
        __slots__ = ("dataset", "producer", "ack_level")
        DATASET_FIELD_NUMBER: _ClassVar[int]
        PRODUCER_FIELD_NUMBER: _ClassVar[int]
        ACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
        dataset: str
        producer: str
        ack_level: AckLevel
        def __init__(self, dataset: _Optional[str] = ..., producer: _Optional[str] = ..., ack_level: _Optional[_Union[AckLevel, str]] = ...) -> None: ...
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    open: PublishRequest.Open
    batch: NumberedBatch
    batches: Batches
    def __init__(self, open: _Optional[_Union[PublishRequest.Open, _Mapping]] = ..., batch: _Optional[_Union[NumberedBatch, _Mapping]] = ..., batches: _Optional[_Union[Batches, _Mapping]] = ...) -> None: ...

class Batches(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[NumberedBatch]
    def __init__(self, batches: _Optional[_Iterable[_Union[NumberedBatch, _Mapping]]] = ...) -> None: ...

class NumberedBatch(_message.Message):
    __slots__ = ("number", "batch", "gaps", "position")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    number: int
    batch: _batch_pb2.Batch
    gaps: _containers.RepeatedCompositeFieldContainer[_gap_pb2.Gap]
    position: str
    def __init__(self, number: _Optional[int] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., gaps: _Optional[_Iterable[_Union[_gap_pb2.Gap, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("opened", "acks")
    class Opened(_message.Message):
        __slots__ = ("last_number", "position")
        LAST_NUMBER_FIELD_NUMBER: _ClassVar[int]
        POSITION_FIELD_NUMBER: _ClassVar[int]
        last_number: int
        position: str
        def __init__(self, last_number: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...
    class Acks(_message.Message):
        __slots__ = ("acks",)
        ACKS_FIELD_NUMBER: _ClassVar[int]
        acks: _containers.RepeatedCompositeFieldContainer[PublishResponse.Ack]
        def __init__(self, acks: _Optional[_Iterable[_Union[PublishResponse.Ack, _Mapping]]] = ...) -> None: ...
    class Ack(_message.Message):
        __slots__ = ("number", "level", "duplicate", "flagged_rows", "tape_sequence", "quarantined_rows")
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        LEVEL_FIELD_NUMBER: _ClassVar[int]
        DUPLICATE_FIELD_NUMBER: _ClassVar[int]
        FLAGGED_ROWS_FIELD_NUMBER: _ClassVar[int]
        TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
        number: int
        level: AckLevel
        duplicate: bool
        flagged_rows: int
        tape_sequence: int
        quarantined_rows: int
        def __init__(self, number: _Optional[int] = ..., level: _Optional[_Union[AckLevel, str]] = ..., duplicate: _Optional[bool] = ..., flagged_rows: _Optional[int] = ..., tape_sequence: _Optional[int] = ..., quarantined_rows: _Optional[int] = ...) -> None: ...
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    opened: PublishResponse.Opened
    acks: PublishResponse.Acks
    def __init__(self, opened: _Optional[_Union[PublishResponse.Opened, _Mapping]] = ..., acks: _Optional[_Union[PublishResponse.Acks, _Mapping]] = ...) -> None: ...

class PublishQuotesRequest(_message.Message):
    __slots__ = ("dataset", "quotes")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    quotes: _containers.RepeatedCompositeFieldContainer[_quote_pb2.Quote]
    def __init__(self, dataset: _Optional[str] = ..., quotes: _Optional[_Iterable[_Union[_quote_pb2.Quote, _Mapping]]] = ...) -> None: ...

class PublishQuotesResponse(_message.Message):
    __slots__ = ("tape_sequence", "flagged_rows", "quarantined_rows")
    TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_ROWS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
    tape_sequence: int
    flagged_rows: int
    quarantined_rows: int
    def __init__(self, tape_sequence: _Optional[int] = ..., flagged_rows: _Optional[int] = ..., quarantined_rows: _Optional[int] = ...) -> None: ...

class PublishTradesRequest(_message.Message):
    __slots__ = ("dataset", "trades")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    trades: _containers.RepeatedCompositeFieldContainer[_trade_pb2.Trade]
    def __init__(self, dataset: _Optional[str] = ..., trades: _Optional[_Iterable[_Union[_trade_pb2.Trade, _Mapping]]] = ...) -> None: ...

class PublishTradesResponse(_message.Message):
    __slots__ = ("tape_sequence", "flagged_rows", "quarantined_rows")
    TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_ROWS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_ROWS_FIELD_NUMBER: _ClassVar[int]
    tape_sequence: int
    flagged_rows: int
    quarantined_rows: int
    def __init__(self, tape_sequence: _Optional[int] = ..., flagged_rows: _Optional[int] = ..., quarantined_rows: _Optional[int] = ...) -> None: ...

class PutInstrumentsRequest(_message.Message):
    __slots__ = ("dataset", "instruments")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    instruments: _containers.RepeatedCompositeFieldContainer[_instrument_pb2.Instrument]
    def __init__(self, dataset: _Optional[str] = ..., instruments: _Optional[_Iterable[_Union[_instrument_pb2.Instrument, _Mapping]]] = ...) -> None: ...

class PutInstrumentsResponse(_message.Message):
    __slots__ = ("instruments",)
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedCompositeFieldContainer[_instrument_pb2.Instrument]
    def __init__(self, instruments: _Optional[_Iterable[_Union[_instrument_pb2.Instrument, _Mapping]]] = ...) -> None: ...

class ListInstrumentsRequest(_message.Message):
    __slots__ = ("dataset", "page_size", "page_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInstrumentsResponse(_message.Message):
    __slots__ = ("instruments", "next_page_token")
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedCompositeFieldContainer[_instrument_pb2.Instrument]
    next_page_token: str
    def __init__(self, instruments: _Optional[_Iterable[_Union[_instrument_pb2.Instrument, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PutPolicyRequest(_message.Message):
    __slots__ = ("dataset", "policy")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    policy: _policy_pb2.Policy
    def __init__(self, dataset: _Optional[str] = ..., policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ...) -> None: ...

class PutPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: _policy_pb2.Policy
    def __init__(self, policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: _policy_pb2.Policy
    def __init__(self, policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ...) -> None: ...

class ListQuarantinedRequest(_message.Message):
    __slots__ = ("dataset", "page_size", "page_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQuarantinedResponse(_message.Message):
    __slots__ = ("items", "next_page_token")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_quarantine_pb2.QuarantinedRows]
    next_page_token: str
    def __init__(self, items: _Optional[_Iterable[_Union[_quarantine_pb2.QuarantinedRows, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReleaseQuarantinedRequest(_message.Message):
    __slots__ = ("dataset", "ids")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReleaseQuarantinedResponse(_message.Message):
    __slots__ = ("released",)
    class Released(_message.Message):
        __slots__ = ("id", "tape_sequence", "already_released")
        ID_FIELD_NUMBER: _ClassVar[int]
        TAPE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        ALREADY_RELEASED_FIELD_NUMBER: _ClassVar[int]
        id: str
        tape_sequence: int
        already_released: bool
        def __init__(self, id: _Optional[str] = ..., tape_sequence: _Optional[int] = ..., already_released: _Optional[bool] = ...) -> None: ...
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: _containers.RepeatedCompositeFieldContainer[ReleaseQuarantinedResponse.Released]
    def __init__(self, released: _Optional[_Iterable[_Union[ReleaseQuarantinedResponse.Released, _Mapping]]] = ...) -> None: ...
