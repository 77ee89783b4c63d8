"""Views: the public messages with their columns as bytes.

On the wire a packed `repeated sfixed64` field and a `bytes` field of the same number
are the same bytes. A view of a public message class is a class made from the same
descriptor in which every packed fixed-width field is `bytes`, so that a column is
read by `numpy.frombuffer` and written by `tobytes` instead of value by value.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_FIXED_WIDTH: Final = frozenset(
    {
        FieldDescriptorProto.TYPE_FIXED32,
        FieldDescriptorProto.TYPE_FIXED64,
        FieldDescriptorProto.TYPE_SFIXED32,
        FieldDescriptorProto.TYPE_SFIXED64,
    }
)
_POOL: Final = DescriptorPool()
_added: set[str] = set()


def _columns_to_bytes(message: DescriptorProto) -> None:
    for field in message.field:
        if field.label == FieldDescriptorProto.LABEL_REPEATED and field.type in _FIXED_WIDTH:
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
    for nested in message.nested_type:
        _columns_to_bytes(nested)


def _add_file(file: Any) -> None:
    if file.name in _added:
        return
    _added.add(file.name)
    for dependency in file.dependencies:
        _add_file(dependency)
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    for message in proto.message_type:
        _columns_to_bytes(message)
    _POOL.AddSerializedFile(proto.SerializeToString())


@cache
def view(public: type[Message]) -> Any:
    """Return the view class of a public message class.

    Parameters
    ----------
    public
        A generated message class.

    Returns
    -------
    type
        A message class with the same name, fields and bytes on the wire, in which
        packed fixed-width fields are `bytes`. Typed `Any`, because it is made at run
        time.
    """
    _add_file(public.DESCRIPTOR.file)
    return GetMessageClass(_POOL.FindMessageTypeByName(public.DESCRIPTOR.full_name))


def parse(public: type[Message], data: bytes) -> Any:
    """Parse bytes of a public message into its view.

    An encoder may legally split a packed field in pieces, leave it unpacked, or add
    fields that we do not know. A view cannot tell these apart from a short column, so
    bytes that do not come out at their own length are parsed by the public class and
    written again in the usual form first.

    Parameters
    ----------
    public
        The generated class of the message.
    data
        The message's bytes.

    Returns
    -------
    Message
        An instance of `view(public)`.

    Raises
    ------
    google.protobuf.message.DecodeError
        If the bytes are not such a message.
    """
    message = view(public).FromString(data)
    message.DiscardUnknownFields()
    if message.ByteSize() == len(data):
        return message
    typed = public.FromString(data)
    typed.DiscardUnknownFields()
    return view(public).FromString(typed.SerializeToString())
