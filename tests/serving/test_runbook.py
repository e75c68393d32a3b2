"""The rollout and rollback of serving/README.md, step by step with its own files, while clients ask for `stable`."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from test_deployment import METRICS_PATH, NAME, SERVING, dockerfile, flags_of, metric_names, text

from keras_tagger.client import Client
from keras_tagger.errors import ServingError
from keras_tagger.serving.config_files import read_batching, read_models, read_monitoring
from keras_tagger.serving.flags import ABSENT, Flags
from keras_tagger.serving.server import Server
from raw_requests import wait_until

CLIP = (np.full(1600, 0.5, np.float32), 16000)


class Scaled(tf.Module):
    """embedding = mean of the waveform x the version."""

    def __init__(self, version: int) -> None:
        self.version = float(version)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")])
    def embedding(self, waveform):
        return {"embedding": tf.reduce_mean(waveform, axis=1, keepdims=True) * self.version}


def add_version(base, version: int) -> None:
    module = Scaled(version)
    hidden = base / f".{version}"
    tf.saved_model.save(module, str(hidden), signatures={"embedding": module.embedding})
    hidden.rename(base / str(version))


@pytest.fixture
def place(tmp_path):
    """The folder of versions, with the first one, and a function that puts a models.config in place."""
    base, file = tmp_path / "models" / NAME, tmp_path / "models.config"
    base.mkdir(parents=True)
    add_version(base, 1)

    def apply(content: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(content.replace(f"/models/{NAME}", str(base)))
        new.rename(file)

    apply(text("config/models.config"))
    return base, file, apply


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def label(server: Server, name: str) -> int:
    """The version that answers for a label."""
    with Client(f"127.0.0.1:{server.port}", version_label=name) as client:
        return round(client.embed(CLIP)[0] / 0.5)


def wait_for(server: Server, name: str, version: int) -> None:
    end = time.monotonic() + 60
    while label(server, name) != version:
        assert time.monotonic() < end, f"{name} did not become {version}"
        time.sleep(0.1)


def test_rollout_and_rollback(place):
    base, file, apply = place
    both, canary = text("config/models.both.config"), text("config/models.canary.config")
    promoted = canary.replace('key: "stable" value: 1', 'key: "stable" value: 2')
    answers: list[int] = []
    failures: list[ServingError] = []
    done = threading.Event()
    with Server(
        port=0,
        rest_api_port=-1,
        model_config_file=str(file),
        model_config_file_poll_wait_seconds=1,
        monitoring_config_file=str(SERVING / "config/monitoring.config"),
        allow_version_labels_for_unavailable_models=True,
    ) as server:

        def ask() -> None:
            with Client(f"127.0.0.1:{server.port}", version_label="stable", retries=0) as client:
                while not done.is_set():
                    try:
                        answers.append(round(client.embed(CLIP)[0] / 0.5))
                    except ServingError as error:
                        failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert (label(server, "stable"), label(server, "canary")) == (1, 1)
            add_version(base, 2)
            time.sleep(2.5)
            assert (server.version, label(server, "canary")) == (1, 1)

            # In stock's order a label moves only to what is available: the second step alone is refused.
            apply(canary)
            time.sleep(2.5)
            assert (server.version, label(server, "canary")) == (1, 1)
            apply(both)
            wait_until(lambda: get(server.rest_api_port, f"/v1/models/{NAME}/versions/2/metadata")[0] == 200)
            assert label(server, "canary") == 1
            apply(canary)
            wait_for(server, "canary", 2)
            assert label(server, "stable") == 1
            # A file that is empty, or not complete, takes nothing away.
            for content in ("", canary[: len(canary) // 2]):
                apply(content)
                time.sleep(1.5)
                assert (label(server, "stable"), label(server, "canary")) == (1, 2)

            assert promoted != canary
            apply(promoted)
            wait_for(server, "stable", 2)
            apply(canary)
            wait_for(server, "stable", 1)
        finally:
            done.set()
            asking.join()
        # Forwards once and back once, and nobody was turned away.
        assert failures == []
        changes = [answers[0], *(after for before, after in itertools.pairwise(answers) if before != after)]
        assert changes == [1, 2, 1]

        status, page = get(server.rest_api_port, METRICS_PATH)
    assert status == 200
    served = set(re.findall(r"^(:[\w:]+)\{", page, re.MULTILINE))
    assert metric_names() <= served


def test_a_label_on_a_version_that_is_not_there_leaves_things_as_they_are(place):
    base, file, apply = place
    with Server(
        port=0,
        rest_api_port=-1,
        model_config_file=str(file),
        model_config_file_poll_wait_seconds=1,
        allow_version_labels_for_unavailable_models=True,
    ) as server:
        apply(text("config/models.canary.config"))
        time.sleep(3.0)
        assert label(server, "stable") == 1
        assert get(server.rest_api_port, f"/v1/models/{NAME}/metadata")[0] == 200
        assert not (base / "2").exists()


def test_the_embedded_server_reads_the_same_files():
    (model,) = read_models(str(SERVING / "config/models.canary.config"))
    assert (model.name, model.base_path) == (NAME, f"/models/{NAME}")
    assert read_monitoring(str(SERVING / "config/monitoring.config")) == METRICS_PATH
    batching = read_batching(str(SERVING / "config/batching_parameters.config"))
    assert (batching.max_batch_size, batching.timeout_seconds, batching.max_enqueued_batches) == (16, 0.002, 64)


def test_the_embedded_server_has_the_same_flags():
    given = flags_of(json.loads(dockerfile()["CMD"][0]))
    left = {name: value for name, value in given.items() if name not in Flags.__dataclass_fields__}
    # It has no profiler, and accepts the flag that turns it off.
    assert left == ABSENT
