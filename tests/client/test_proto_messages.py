"""Message classes from tables of fields."""

from __future__ import annotations

import pytest
from google.protobuf import wrappers_pb2

from keras_tagger.client.proto_messages import message_classes

FIELDS = {
    "Outer": """
        repeated int64 sizes = 2; map<string, Inner> by_name = 3; oneof either string text = 4;
        oneof either bool flag = 5; .google.protobuf.Int64Value limit = 6;
    """,
    "Inner": "double value = 1;",
}


def test_fields_have_the_numbers_and_kinds_of_the_table() -> None:
    outer = message_classes("a.proto", "a", FIELDS, [wrappers_pb2.DESCRIPTOR])["Outer"]
    message = outer(sizes=[1, 2], text="x", limit={"value": 7})
    message.by_name["one"].value = 0.5
    message.flag = True
    assert message.WhichOneof("either") == "flag"
    read = outer.FromString(message.SerializeToString())
    assert (list(read.sizes), read.by_name["one"].value, read.limit.value) == ([1, 2], 0.5, 7)
    numbers = {field.name: field.number for field in outer.DESCRIPTOR.fields}
    assert numbers == {"sizes": 2, "by_name": 3, "text": 4, "flag": 5, "limit": 6}


@pytest.mark.parametrize("wrong", ["string name = one;", "string = 1;", "string name = 1", "list<string> name = 1;"])
def test_a_field_that_is_not_understood_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="Message: expected fields such as"):
        message_classes("a.proto", "a", {"Message": f"int64 number = 2; {wrong}"})
