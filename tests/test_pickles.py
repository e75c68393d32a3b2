"""Pickles are read without importing or calling anything that they name."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest

import public_sets as sets
from keras_tagger.errors import ManifestError
from keras_tagger.pickles import SafeUnpickler, check_memo, read_pickle


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_run_nothing(tmp_path, protocol):
    target = tmp_path / "made"
    for content in (Evil(str(target)), ["TRA", Evil(str(target))], np.array([Evil(str(target))], object)):
        (tmp_path / "list.cP").write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(ManifestError, match=r"list\.cP: expected a pickle of lists") as error:
            read_pickle(str(tmp_path / "list.cP"))
        assert "\n" not in str(error.value)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cposix\nsystem\n(S'touch x'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"ios\nsystem\n(S'x'\no.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"(lp1\nS'TRAA",
        b"",
    ],
)
def test_damaged_and_hostile_pickles(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ManifestError, match="expected a pickle of lists, dictionaries, text and numeric arrays"):
        read_pickle(str(tmp_path / "x.pkl"))


def test_pickles_of_numbers(tmp_path):
    values = {"a": np.arange(6, dtype="<f8").reshape(2, 3), "b": [1, "é", True]}
    (tmp_path / "x.pkl").write_bytes(sets.python2_pickle(values))
    found = read_pickle(str(tmp_path / "x.pkl"))
    np.testing.assert_array_equal(found["a"], values["a"])
    assert found["b"] == [1, "é", True]
    # As Python 3 writes numbers of numpy's, and bytes for Python 2.
    values = {"x": np.float64(2.5), "n": np.int32(-3), "b": b"\xff\x00", "none": None, "i": np.arange(3, dtype="<i2")}
    (tmp_path / "y.pkl").write_bytes(pickle.dumps(values, protocol=2))
    found = read_pickle(str(tmp_path / "y.pkl"))
    assert (found["x"], found["n"], found["b"], found["none"]) == (2.5, -3, b"\xff\x00", None)
    assert found["i"].tolist() == [0, 1, 2]


def test_only_the_table_decides_what_a_name_stands_for():
    content = io.BytesIO(pickle.dumps([os.getcwd, 1], protocol=2))
    assert SafeUnpickler(content, lambda module, name: f"{name} of {module}").load() == ["getcwd of posix", 1]
    content.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=r"its pickle names posix\.getcwd, which is not data; nothing was"):
        SafeUnpickler(content, lambda module, name: None).load()


@pytest.mark.parametrize("step", [b"r\xff\xff\xff\x7f", b"q\xf0", b"p4000000\n"])
def test_a_small_pickle_with_a_huge_memo_is_refused(step):
    with pytest.raises(pickle.UnpicklingError, match=r"a pickle with a memo of \d+ places"):
        check_memo(io.BytesIO(b"\x80\x02K\x01" + step + b"."))
    file = io.BytesIO(pickle.dumps([[str(i)] for i in range(400)], protocol=2))
    check_memo(file)
    assert file.tell() == 0
