"""Versions that come, break and go while requests run: none fails, and the version in replies only moves forward."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

import unrelated
from keras_tagger.serving.server import Server
from raw_requests import Raw, as_numpy, wait_until
from rest_requests import ask

REQUESTS = 500
WORDS = {"words": np.array([b"a"], object), "counts": np.array([3], np.int32)}
AVAILABLE, END = 30, 50


class Clients:
    """Three clients over gRPC and one over REST; `answers` are (asked at, answered at, version)."""

    def __init__(self, server: Server) -> None:
        self._raw = Raw(server.port)
        self._rest = server.rest_api_port
        self.answers: list[tuple[float, float, int]] = []
        self.errors: list[BaseException] = []
        self.done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index == 0,)) for index in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self, rest: bool) -> None:
        while not self.done.is_set():
            begun = time.monotonic()
            try:
                version = self._over_rest() if rest else self._over_grpc()
            except BaseException as error:
                self.errors.append(error)
                return
            self.answers.append((begun, time.monotonic(), version))

    def _over_grpc(self) -> int:
        reply = self._raw.predict(WORDS)
        version = reply.model_spec.version.value
        assert as_numpy(reply)["product"].tolist() == [3 * version]
        return version

    def _over_rest(self) -> int:
        status, reply = ask(self._rest, "POST", "/v1/models/m:predict", {"instances": [{"words": "a", "counts": 3}]})
        assert status == 200, reply
        return reply["predictions"][0]["product"] // 3

    def wait_for(self, version: int, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not self.errors and time.monotonic() < end:
            if self.answers and self.answers[-1][2] == version:
                return
            time.sleep(0.02)
        pytest.fail(f"no reply of version {version}: {self.errors}")

    def stop(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()


def test_no_request_fails_and_versions_move_forward(tmp_path: Path) -> None:
    unrelated.save(tmp_path, 1)
    with Server(tmp_path, "m", port=0, rest_api_port=-1, file_system_poll_wait_seconds=0.05) as server:
        clients = Clients(server)
        try:
            clients.wait_for(1)
            unrelated.save(tmp_path, 2)
            clients.wait_for(2)
            (tmp_path / "3").mkdir()
            (tmp_path / "3" / "saved_model.pb").write_bytes(b"broken")
            unrelated.save(tmp_path, 4)
            clients.wait_for(4)
            unrelated.save(tmp_path, 5)
            clients.wait_for(5)
            while len(clients.answers) < REQUESTS and not clients.errors:
                time.sleep(0.05)
        finally:
            clients.stop()
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "m"
        states = {
            status.version: status
            for status in Raw(server.port).model.GetModelStatus(request, timeout=60).model_version_status
        }
    assert clients.errors == []
    assert len(clients.answers) >= REQUESTS
    # What was asked after an answer had come is answered by that answer's version or a later one.
    by_end = sorted((ended, version) for _, ended, version in clients.answers)
    newest, index = 0, 0
    for begun, _, version in sorted(clients.answers):
        while index < len(by_end) and by_end[index][0] < begun:
            newest = max(newest, by_end[index][1])
            index += 1
        assert version >= newest
    assert {version for _, _, version in clients.answers} == {1, 2, 4, 5}
    assert states[5].state == AVAILABLE
    assert {states[version].state for version in (1, 2, 4)} == {END}
    assert (3 not in states) or (states[3].state == END and states[3].status.error_code == 2)


def test_a_broken_version_leaves_the_old_one_and_is_tried_again_when_it_is_mended(tmp_path: Path) -> None:
    unrelated.save(tmp_path, 1)
    broken = tmp_path / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"broken")
    options = {"port": 0, "file_system_poll_wait_seconds": 0.05, "max_num_load_retries": 0}
    with Server(tmp_path, "m", **options) as server:
        # Also a server that starts now serves the version that there was.
        raw = Raw(server.port)
        assert server.version == 1
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "m"
        request.model_spec.version.value = 2
        (status,) = raw.model.GetModelStatus(request, timeout=60).model_version_status
        assert status.state == END
        assert "expected a SavedModel that loads" in status.status.error_message
        mended = unrelated.save(tmp_path, 20)
        mended.rename(tmp_path / "hidden")
        wait_until(lambda: server.version == 1)
        for path in (tmp_path / "hidden").iterdir():
            if path.name != "saved_model.pb":
                path.rename(broken / path.name)
        (tmp_path / "hidden" / "saved_model.pb").replace(broken / "saved_model.pb")
        wait_until(lambda: server.version == 2)
        assert as_numpy(raw.predict(WORDS))["product"].tolist() == [60]


def test_going_back_by_deleting_the_newest(tmp_path: Path) -> None:
    for version in (1, 2):
        unrelated.save(tmp_path, version)
    with Server(tmp_path, "m", port=0, file_system_poll_wait_seconds=0.05) as server:
        assert server.version == 2
        shutil.rmtree(tmp_path / "2")
        wait_until(lambda: server.version == 1)
        assert as_numpy(Raw(server.port).predict(WORDS))["product"].tolist() == [3]
        # A base path that is away for a moment takes nothing away.
        tmp_path.rename(tmp_path.with_name("away"))
        time.sleep(0.3)
        assert as_numpy(Raw(server.port).predict(WORDS))["product"].tolist() == [3]
        tmp_path.with_name("away").rename(tmp_path)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [3]),
        ("latest {}", [3]),
        ("latest { num_versions: 2 }", [3, 2]),
        ("all {}", [3, 2, 1]),
        ("specific { versions: 1 versions: 3 }", [3, 1]),
        ("specific { versions: 2 versions: 9 }", [2]),
    ],
)
def test_policies(tmp_path: Path, policy: str, served: list[int]) -> None:
    base = tmp_path / "base"
    base.mkdir()
    unrelated.save(base, 1)
    for version in (2, 3):
        shutil.copytree(base / "1", base / str(version))
    config = tmp_path / "models.config"
    written = f"model_version_policy {{ {policy} }}" if policy else ""
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {written} }} }}'
    )
    with Server(model_config_file=str(config), port=0) as server:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "m"
        reply = Raw(server.port).model.GetModelStatus(request, timeout=60)
        found = [status.version for status in reply.model_version_status if status.state == AVAILABLE]
        assert found == served
        assert server.version == served[0]


def test_a_config_file_is_read_again(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for version in (1, 2):
        unrelated.save(base, version)
    config = tmp_path / "models.config"

    def write(body: str) -> None:
        config.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {body} }} }}'
        )

    def latest() -> int:
        return as_numpy(raw.predict(WORDS))["product"][0] // 3

    write("model_version_policy { specific { versions: 1 } } ")
    with Server(model_config_file=str(config), port=0, model_config_file_poll_wait_seconds=1) as server:
        raw = Raw(server.port)
        assert latest() == 1
        write("nonsense {")
        time.sleep(1.2)
        assert latest() == 1
        # Labels are checked before versions load, so a canary takes two steps.
        canary = 'model_version_policy { all {} } version_labels { key: "canary" value: 2 }'
        write(canary)
        time.sleep(1.2)
        assert server.version == 1
        write("model_version_policy { all {} }")
        wait_until(lambda: server.version == 2)
        write(canary)
        wait_until(lambda: answers_label(raw))
        assert latest() == 2


def answers_label(raw: Raw) -> bool:
    try:
        return raw.predict(WORDS, label="canary").model_spec.version.value == 2
    except grpc.RpcError:
        return False
