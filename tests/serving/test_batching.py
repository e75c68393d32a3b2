"""--enable_batching: requests are run together, and no neighbour changes or fails an answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import unrelated
from keras_tagger.errors import ServingError
from keras_tagger.serving.server import Server
from raw_requests import Raw, as_numpy, refusal


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batching")
    unrelated.save(folder, 1)
    return folder


def settings(folder: Path, **fields: Any) -> str:
    path = folder / "batching.config"
    plain = ("allowed_batch_sizes", "pad_variable_length_inputs")
    lines = []
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            text = str(item).lower()
            lines.append(f"{name}: {text}" if name in plain else f"{name} {{ value: {text} }}")
    path.write_text("\n".join(lines))
    return str(path)


def together(raw: Raw, rows: list[np.ndarray]) -> list[Any]:
    """The reply, or the refusal, of each request; all are sent at once."""
    found: list[Any] = [None] * len(rows)

    def ask(index: int) -> None:
        try:
            found[index] = as_numpy(raw.predict({"x": rows[index]}, "gathered"))
        except grpc.RpcError as error:
            found[index] = (error.code().name, error.details())

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_requests_of_one_length_run_together_and_each_gets_its_own(base: Path, tmp_path: Path) -> None:
    path = settings(tmp_path, max_batch_size=6, batch_timeout_micros=1_000_000, num_batch_threads=1)
    with Server(base, "m", port=0, enable_batching=True, batching_parameters_file=path) as server:
        raw = Raw(server.port)
        rows = [np.full((1, 4), index, np.float32) for index in range(6)]
        found = together(raw, rows)
        assert [reply["sum"].tolist() for reply in found] == [[4.0 * index] for index in range(6)]
        # The sixth fills the batch, which is then run at once.
        assert [reply["rows"].tolist() for reply in found] == [[6]] * 6
        mixed = [np.full((2, 4), 1, np.float32), np.full((1, 5), 1, np.float32), np.full((1, 4), 2, np.float32)]
        found = together(raw, mixed)
        assert [reply["sum"].tolist() for reply in found] == [[4.0, 4.0], [5.0], [8.0]]
        assert [reply["rows"].tolist() for reply in found] == [[3, 3], [1], [3]]
        # Larger than a batch: alone.
        (reply,) = together(raw, [np.ones((9, 4), np.float32)])
        assert reply["rows"].tolist() == [9] * 9


def test_one_that_fails_fails_alone(base: Path, tmp_path: Path) -> None:
    path = settings(tmp_path, max_batch_size=3, batch_timeout_micros=1_000_000, num_batch_threads=1)
    with Server(base, "m", port=0, enable_batching=True, batching_parameters_file=path) as server:
        rows = [np.full((1, 4), value, np.float32) for value in (1, -1, 2)]
        good, bad, better = together(Raw(server.port), rows)
    assert (good["sum"].tolist(), better["sum"].tolist()) == ([4.0], [8.0])
    assert bad == ("INVALID_ARGUMENT", "a negative row")


def test_allowed_sizes_are_filled_up(base: Path, tmp_path: Path) -> None:
    path = settings(
        tmp_path, max_batch_size=8, batch_timeout_micros=100_000, num_batch_threads=1, allowed_batch_sizes=[4, 8]
    )
    with Server(base, "m", port=0, enable_batching=True, batching_parameters_file=path) as server:
        found = together(Raw(server.port), [np.full((1, 2), value, np.float32) for value in (1, 2, 3)])
    assert [(reply["sum"].tolist(), reply["rows"].tolist()) for reply in found] == [
        ([2.0], [4]),
        ([4.0], [4]),
        ([6.0], [4]),
    ]


def test_a_full_queue_and_a_deadline_in_it(base: Path, tmp_path: Path) -> None:
    path = settings(
        tmp_path, max_batch_size=2, max_enqueued_batches=1, batch_timeout_micros=3_000_000, num_batch_threads=1
    )
    with Server(base, "m", port=0, enable_batching=True, batching_parameters_file=path) as server:
        raw = Raw(server.port)
        one = np.ones((1, 4), np.float32)
        code, _ = refusal(raw.predict, {"x": one}, "gathered", timeout=0.3)
        assert code == "DEADLINE_EXCEEDED"
        waiting = threading.Thread(target=lambda: raw.predict({"x": one}, "gathered"))
        waiting.start()
        threading.Event().wait(0.3)
        expected = ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
        assert refusal(raw.predict, {"x": np.ones((2, 4), np.float32)}, "gathered") == expected
        waiting.join()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"pad_variable_length_inputs": True}, "expected pad_variable_length_inputs to be false"),
        ({"max_batch_size": 0}, "expected max_batch_size to be at least 1. Received: 0"),
        ({"max_batch_size": 8, "allowed_batch_sizes": [4, 6]}, "end with max_batch_size 8. Received: .4, 6."),
        ({"nonsense": 1}, "expected a BatchingParameters in protobuf text format. Received: .*nonsense"),
    ],
)
def test_settings_that_cannot_be(base: Path, tmp_path: Path, fields: dict[str, Any], text: str) -> None:
    path = settings(tmp_path, **fields)
    with pytest.raises(ServingError, match=text):
        Server(base, "m", port=0, enable_batching=True, batching_parameters_file=path).start()


def test_settings_without_batching(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="expected --enable_batching too"):
        Server(base, "m", port=0, batching_parameters_file=settings(tmp_path, max_batch_size=8))
