"""Message classes from tables of fields, for protocols that no maintained package has stubs of.

The classes live in descriptor pools of their own, so they cannot collide with another package's copies of the same
messages, such as those of `tritonclient`, and they work with every version of protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Fields by message: name to (number, type). A type is a scalar, the name of a message of the same table, either of them
# after "repeated ", or "map<string, MESSAGE>". A field whose type begins with "oneof NAME " belongs to that oneof.
Table = Mapping[str, Mapping[str, tuple[int, str]]]

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_FIELD, f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}


class Protocol:
    """The messages and the service of a protocol.

    Args:
        package: Name of its package.
        messages: Its messages.
        service: Name of its service, without the package.
        methods: Request and reply of each method; a name after "stream " is a stream.

    Attributes:
        service: Full name of the service.
        methods: Classes of the request and the reply of each method.
        file: The descriptor of all this, for reflection.
    """

    def __init__(self, package: str, messages: Table, service: str, methods: Mapping[str, tuple[str, str]]) -> None:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package.replace('.', '/')}_{service}.proto", package=package, syntax="proto3"
        )
        for name, fields in messages.items():
            _add_message(file.message_type.add(name=name), f".{package}", fields)
        added = file.service.add(name=service)
        for name, sides in methods.items():
            request, reply = (f".{package}.{side.removeprefix('stream ')}" for side in sides)
            streamed = {
                key: True
                for key, side in zip(("client_streaming", "server_streaming"), sides, strict=True)
                if side.startswith("stream ")
            }
            added.method.add(name=name, input_type=request, output_type=reply, **streamed)
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        self.file = pool.FindFileByName(file.name)
        self.service = f"{package}.{service}"
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
        }
        self.methods: dict[str, tuple[Any, Any]] = {}
        for name, sides in methods.items():
            request, reply = (self._classes[side.removeprefix("stream ")] for side in sides)
            self.methods[name] = (request, reply)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_classes"][name]
        except KeyError:
            raise AttributeError(name) from None


def _add_message(message: Any, scope: str, fields: Mapping[str, tuple[int, str]]) -> None:
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if kind.startswith("oneof "):
            _, oneof, kind = kind.split()
            names = [one.name for one in message.oneof_decl]
            if oneof not in names:
                message.oneof_decl.add(name=oneof)
                names.append(oneof)
            field.oneof_index = names.index(oneof)
        elif kind.startswith("repeated "):
            kind, field.label = kind.removeprefix("repeated "), _FIELD.LABEL_REPEATED
        elif kind.startswith("map<string, "):
            # Protobuf writes a map as a repeated message with the fields key and value.
            value, field.label = kind.removeprefix("map<string, ").removesuffix(">"), _FIELD.LABEL_REPEATED
            kind = f"{message.name}.{name.title()}Entry"
            entry = message.nested_type.add(name=f"{name.title()}Entry")
            entry.options.map_entry = True
            _add_message(entry, scope, {"key": (1, "string"), "value": (2, value)})
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f"{scope}.{kind}"
