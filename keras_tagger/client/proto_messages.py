"""Message classes from tables of fields, for protocols that no maintained package has stubs of.

The classes live in descriptor pools of their own, so they cannot collide with another package's copies of the same
messages, such as those of `tritonclient`, and they work with every version of protobuf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The fields of each message as in a .proto file: "string name = 1; repeated int64 shape = 2;". A type is a scalar, the
# name of a message of the same table, the full name of another message after a dot, or "map<string, MESSAGE>". A field
# behind "oneof NAME " belongs to that oneof.
Table = Mapping[str, str]

_DECLARATION = re.compile(
    r"(?:oneof (?P<oneof>\w+) )?(?P<repeated>repeated )?(?P<kind>[\w.]+|map<string, (?P<value>\w+)>) "
    r"(?P<name>\w+) = (?P<number>\d+);"
)
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
        file = _file(f"{package.replace('.', '/')}_{service}.proto", package, messages)
        added = file.service.add(name=service)
        for name, sides in methods.items():
            request, reply = (f".{package}.{side.removeprefix('stream ')}" for side in sides)
            streamed = {
                key: True
                for key, side in zip(("client_streaming", "server_streaming"), sides, strict=True)
                if side.startswith("stream ")
            }
            added.method.add(name=name, input_type=request, output_type=reply, **streamed)
        self.file = _in_own_pool(file)
        self.service = f"{package}.{service}"
        self._classes = _classes(self.file)
        self.methods: dict[str, tuple[Any, Any]] = {}
        for name, sides in methods.items():
            request, reply = (self._classes[side.removeprefix("stream ")] for side in sides)
            self.methods[name] = (request, reply)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_classes"][name]
        except KeyError:
            raise AttributeError(name) from None


def message_classes(name: str, package: str, messages: Table, imported: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the classes of messages without a service, by name.

    Args:
        name: Name of their file.
        package: Name of their package.
        messages: The messages.
        imported: Descriptors of the files with the messages that they refer to.

    Raises:
        ValueError: If a field is not declared as in a .proto file.
    """
    return _classes(_in_own_pool(_file(name, package, messages), imported))


def _file(name: str, package: str, messages: Table) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for message, fields in messages.items():
        _add_message(file.message_type.add(name=message), f".{package}", fields)
    return file


def _in_own_pool(file: Any, imported: Sequence[Any] = ()) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for other in imported:
        pool.AddSerializedFile(other.serialized_pb)
        file.dependency.append(other.name)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


def _classes(file: Any) -> dict[str, Any]:
    return {name: message_factory.GetMessageClass(message) for name, message in file.message_types_by_name.items()}


def _add_message(message: Any, scope: str, fields: str) -> None:
    if rest := _DECLARATION.sub("", fields).strip():
        raise ValueError(f"{message.name}: expected fields such as 'string name = 1;'. Received: {rest!r}.")
    for found in _DECLARATION.finditer(fields):
        name, kind = found["name"], found["kind"]
        field = message.field.add(name=name, number=int(found["number"]), label=_FIELD.LABEL_OPTIONAL)
        if found["repeated"]:
            field.label = _FIELD.LABEL_REPEATED
        if found["oneof"]:
            names = [one.name for one in message.oneof_decl]
            if found["oneof"] not in names:
                message.oneof_decl.add(name=found["oneof"])
                names.append(found["oneof"])
            field.oneof_index = names.index(found["oneof"])
        if found["value"]:
            # Protobuf writes a map as a repeated message with the fields key and value.
            kind, field.label = f"{message.name}.{name.title()}Entry", _FIELD.LABEL_REPEATED
            entry = message.nested_type.add(name=f"{name.title()}Entry")
            entry.options.map_entry = True
            _add_message(entry, scope, f"string key = 1; {found['value']} value = 2;")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind if kind.startswith(".") else f"{scope}.{kind}"
