"""Files of `torch.save` are read or refused, and nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pickled
import pytest

from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.storage.pytorch.pytorch_file import BELOW, read_tensors, state_dict

DATA = Path(__file__).parent / "data"
REBUILD = ("torch._utils", "_rebuild_tensor_v2")


def test_zip_and_old_format_have_the_same_names() -> None:
    """won2019 was written with DataParallel in the format before 1.6, won2019_raw as a zip archive."""
    old = state_dict(read_tensors(DATA / "won2019.pth"), "")
    new = state_dict(read_tensors(DATA / "won2019_raw.pth"), "")
    assert not zipfile.is_zipfile(DATA / "won2019.pth")
    assert zipfile.is_zipfile(DATA / "won2019_raw.pth")
    back_end = {name.removeprefix("module.") for name in old if "back_end" in name}
    assert back_end == {name for name in new if "back_end" in name}
    assert old["module.back_end.pooler.dense.weight"].shape == (16, 16)
    assert old["module.front_end.input_bn.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(value).all() for value in old.values())


def test_values_shapes_and_types(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = {
        "a": rng.standard_normal((3, 4)).astype(np.float32),
        "b": np.array(7, np.int64),
        "c": rng.standard_normal((2, 3, 2)),
        "d": rng.standard_normal(5).astype(np.float16),
        "empty": np.zeros((0,), np.float32),
    }
    found = state_dict(read_tensors(pickled.write(tmp_path / "a.pth", given)), "")
    assert list(found) == list(given)
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_tensors_that_share_a_storage_or_are_transposed(tmp_path: Path) -> None:
    stored = pickled.Storage("0", "FloatStorage", 12)
    rebuild = ("torch._utils", "_rebuild_tensor_v2")
    views = {
        "whole": np.arange(12, dtype=np.float32).reshape(3, 4),
        "turned": pickled.Call(*rebuild, stored, 0, (4, 3), (1, 4), False, None),
        "part": pickled.Call(*rebuild, stored, 5, (2,), (2,), False, None),
    }
    found = state_dict(read_tensors(pickled.write(tmp_path / "a.pth", views)), "")
    np.testing.assert_array_equal(found["turned"], found["whole"].T)
    np.testing.assert_array_equal(found["part"], [5.0, 7.0])


def test_bfloat16(tmp_path: Path) -> None:
    # 1.5 and -2 in bfloat16 are the upper halves of their float32.
    halves = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    stored = pickled.Storage("0", "BFloat16Storage", 2)
    tensor = pickled.Call("torch._utils", "_rebuild_tensor_v2", stored, 0, (2,), (1,), False, None)
    path = pickled.write(tmp_path / "a.pth", {"a": tensor})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", halves.tobytes())
    np.testing.assert_array_equal(read_tensors(path)["a"], [1.5, -2.0])


@pytest.mark.parametrize(
    ("change", "compression", "words"),
    [
        ({"archive/byteorder": b"big"}, zipfile.ZIP_STORED, "numbers of another byte order"),
        ({"other/data.pkl": b"\x80\x02}."}, zipfile.ZIP_STORED, r"a zip archive that torch\.save did not write"),
        ({}, zipfile.ZIP_DEFLATED, r"a zip archive that torch\.save did not write"),
    ],
    ids=["byte order", "two pickles", "compressed"],
)
def test_other_archives_are_refused(change: dict[str, bytes], compression: int, words: str, tmp_path: Path) -> None:
    path = pickled.write(tmp_path / "a.pth", {"a": np.ones(2, np.float32)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**members, **change}.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match=words):
        read_tensors(path)


def old_file(path: Path, magic: int = 0x1950A86A20F9469CFC6C, protocol: int = 1001, little: bool = True) -> Path:
    """Write the format before 1.6, with a tensor that is a view of the middle of a storage of four numbers."""
    stored = pickled.Storage("0", "FloatStorage", 4)
    stored.reference = (*stored.reference, ("view", 1, 2))
    tensor = io.BytesIO()
    pickled.Pickler(tensor, 2).dump({"a": pickled.Call(*REBUILD, stored, 0, (2,), (1,), False, None)})
    before = b"".join(pickle.dumps(part, 2) for part in (magic, protocol, {"little_endian": little}))
    numbers = (4).to_bytes(8, "little") + np.arange(4, dtype="<f4").tobytes()
    path.write_bytes(before + tensor.getvalue() + pickle.dumps(["0"], 2) + numbers)
    return path


def test_old_files_have_views_of_storages_and_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    np.testing.assert_array_equal(read_tensors(old_file(path))["a"], [1.0, 2.0])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="a truncated file"):
        read_tensors(path)
    for other, words in (
        ({"magic": 7}, r"not a file of torch\.save"),
        ({"protocol": 1000}, r"not a file of torch\.save"),
        ({"little": False}, "numbers of another byte order"),
    ):
        with pytest.raises(ModelError, match=words):
            read_tensors(old_file(path, **other))


def test_many_tensors_of_one_storage_take_no_more_memory(tmp_path: Path) -> None:
    """100 tensors of the same 4 MB take 4 MB."""
    stored = pickled.Storage("0", "FloatStorage", 10**6)
    views = {f"view {i}": pickled.Call(*REBUILD, stored, 0, (10**6,), (1,), False, None) for i in range(100)}
    found = read_tensors(pickled.write(tmp_path / "a.pth", {"whole": np.arange(1e6, dtype=np.float32), **views}))
    assert len(found) == 101
    assert all(np.shares_memory(found["whole"], value) for value in found.values())
    np.testing.assert_array_equal(found["view 99"][[0, -1]], [0.0, 999999.0])


def test_what_lightning_notes_of_itself_is_passed_over(tmp_path: Path) -> None:
    notes = {
        "epoch": 3,
        "pytorch-lightning_version": "1.2.8",
        "callbacks": {pickled.Named("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"): {"patience": 40}},
        "hyper_parameters": pickled.Call("pytorch_lightning.utilities.parsing", "AttributeDict"),
    }
    found = read_tensors(pickled.write(tmp_path / "a.ckpt", {"a": np.ones(2, np.float32)}, notes))
    assert found["epoch"] == 3
    np.testing.assert_array_equal(state_dict(found, "")["a"], [1.0, 1.0])


@pytest.mark.parametrize(
    "beside",
    [
        pickled.Call("numpy.core.multiarray", "scalar", pickled.Call("numpy", "dtype", "f8", 0, 1), b"12345678"),
        pickled.Call("numpy._core.multiarray", "scalar", pickled.Call("numpy", "dtype", "f4", 0, 1), b"1234"),
        pickled.Call("__builtin__", "set", [1, 2]),
        pickled.Call("collections", "defaultdict", pickled.Named("builtins", "dict")),
        pickled.Call("pathlib", "PosixPath", "/", "x"),
        pickled.Call("torch", "device", "cuda", 0),
        pickled.Named("torch", "float32"),
    ],
    ids=["float64", "float32", "set", "defaultdict", "path", "device", "dtype"],
)
def test_plain_data_beside_the_tensors_is_passed_over(beside: Any, tmp_path: Path) -> None:
    """Trainers store a best score, paths and devices."""
    path = pickled.write(tmp_path / "a.ckpt", {"a": np.ones(2, np.float32)}, {"note": beside})
    np.testing.assert_array_equal(state_dict(read_tensors(path), path)["a"], [1.0, 1.0])


@pytest.mark.parametrize("key", BELOW)
def test_where_the_tensors_are(key: str, tmp_path: Path) -> None:
    stored = {"a": np.ones(2, np.float32)}
    assert list(state_dict({key: stored, "epoch": 3}, "")) == ["a"]
    with pytest.raises(ModelError, match=r"below state_dict, model_state_dict, model\. Received: x, which has none"):
        state_dict({"net": stored}, "x")


def in_old_format(content: bytes) -> bytes:
    before = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in before) + content + pickle.dumps([], 2)


def in_zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        # 4 bytes that would make Python's unpickler fill 16 GB.
        (b"\x80\x02}r\xff\xff\xff\x7f.", "a pickle with a memo of 2147483647 places"),
        (b"\x80\x02}p1000000000\n.", "a pickle with a memo of 1000000000 places"),
        (b'\x80\x02}q\x00S"a"\nh\x00s.', "a container that contains itself"),
        (b'\x80\x02}S"a"\n]q\x00h\x00as.', "a container that contains itself"),
    ],
    ids=["memo", "old memo", "dictionary", "list"],
)
def test_small_files_that_would_fill_the_memory(content: bytes, words: str, old: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(in_old_format(content)) if old else in_zip(path, content)
    with pytest.raises(ModelError, match=words):
        read_tensors(path)


def test_containers_that_hold_another_twice_are_read_once(tmp_path: Path) -> None:
    """Forty lists, each of which holds the previous one twice, are 2^40 entries if each is read separately."""
    lists = b"]q\x000" + b"".join(b"]q%c(h%ch%ce0" % (i, i - 1, i - 1) for i in range(1, 40))
    in_zip(tmp_path / "a.pth", b"\x80\x02" + lists + b'}S"a"\nh\x27s.')
    found, depth = read_tensors(tmp_path / "a.pth")["a"], 0
    while found:
        assert found[0] is found[1]
        found, depth = found[0], depth + 1
    assert depth == 39


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("numpy", "load"),
        ("models", "MusicTaggingTransformer"),
    ],
)
def test_a_pickle_that_would_run_code_is_refused(module: str, name: str, tmp_path: Path) -> None:
    trace = tmp_path / "it_ran"
    harm = pickled.Call(module, name, f"touch {trace}")
    path = pickled.write(tmp_path / "evil.pth", {"a": np.ones(2, np.float32), "b": harm})
    with pytest.raises(ModelError, match=rf"its pickle names {module}\.{name}, which is not data") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


class _Harm:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("place", [0, 2, 3, 4])
def test_old_files_run_nothing_either(place: int, tmp_path: Path) -> None:
    """The format before 1.6 has several pickles."""
    trace = tmp_path / "it_ran"
    parts: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    parts[place] = _Harm(f"touch {trace}")
    path = tmp_path / "evil.pth"
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(ModelError, match=r"its pickle names \w+\.system"):
        read_tensors(path)
    assert not trace.exists()
    # The same bytes do run where a pickle is simply loaded, so the test would notice.
    pickle.loads(pickle.dumps(parts[place]))
    assert trace.exists()


STORED = pickled.Storage("0", "FloatStorage", 4)
UNTYPED = pickled.Storage("0", "", 4)
UNTYPED.reference = ("storage", pickled.Named("torch.storage", "UntypedStorage"), "0", "cpu", 4)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (pickled.Call(*REBUILD, STORED, 0, (5,), (1,), False, None), r"a tensor of shape \(5,\) that is not within"),
        (pickled.Call(*REBUILD, STORED, 2, (3,), (1,), False, None), r"a tensor of shape \(3,\) that is not within"),
        (pickled.Call(*REBUILD, STORED, 0, (2, 2), (3, 1), False, None), r"shape \(2, 2\) that is not within"),
        (pickled.Call(*REBUILD, STORED, -1, (2,), (1,), False, None), r"shape \(2,\) that is not within"),
        (pickled.Call(*REBUILD, STORED, 3, (2,), (-1,), False, None), r"shape \(2,\) that is not within"),
        (pickled.Call(*REBUILD, STORED, 0, (-2,), (1,), False, None), r"shape \(-2,\) that is not within"),
        (pickled.Call(*REBUILD, STORED, 0, (10**6, 10**6), (0, 0), False, None), r"\(1000000, 1000000\) that is not"),
        (
            pickled.Call(*REBUILD, pickled.Storage("0", "FloatStorage", 10**12), 0, (10**12,), (1,), False, None),
            r"shape \(1000000000000,\) that is not within",
        ),
        (
            pickled.Call(*REBUILD, pickled.Storage("9", "FloatStorage", 4), 0, (4,), (1,), False, None),
            "There is no item named '.*/9'",
        ),
        (
            pickled.Call(*REBUILD, pickled.Storage("0", "QuantizedStorage", 4), 0, (4,), (1,), False, None),
            r"its pickle names torch\.QuantizedStorage, which is not data",
        ),
        (pickled.Call(*REBUILD, UNTYPED, 0, (4,), (1,), False, None), "a storage of an unknown type, 'UntypedStorage'"),
        (pickled.Call(*REBUILD, "0", 0, (4,), (1,), False, None), "a tensor without a storage"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tensor: Any, words: str, tmp_path: Path) -> None:
    path = pickled.write(tmp_path / "a.pth", {"whole": np.ones(4, np.float32), "b": tensor})
    with pytest.raises(ModelError, match=rf"expected a PyTorch checkpoint\. Received: .*a\.pth \(.*{words}"):
        read_tensors(path)


def test_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"none\.pth, which does not exist"):
        read_tensors(tmp_path / "none.pth")
    whole = (DATA / "won2019.pth").read_bytes()
    zipped = (DATA / "won2019_raw.pth").read_bytes()
    for content in (b"", b"hello", whole[:1000], whole[:-5], zipped[:-200], b"PK\x03\x04" + bytes(100)):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(ModelError, match=r"expected a PyTorch checkpoint") as caught:
            read_tensors(tmp_path / "a.pth")
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="expected a PyTorch checkpoint"):
        read_tensors(tmp_path)
    lone = pickled.write(tmp_path / "b.pth", {}, None)
    with pytest.raises(ModelError, match="which has none there"):
        state_dict(read_tensors(lone), lone)
