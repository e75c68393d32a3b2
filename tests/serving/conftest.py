"""SavedModels of `served_modules`, and the embedded server of each."""

from __future__ import annotations

import pytest
import tensorflow as tf

from keras_tagger.serving.server import Server
from raw_requests import Raw
from served_modules import Echo, Tagger, Words


@pytest.fixture(scope="session")
def tagger_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("tagger")
    module = Tagger()
    signatures = {"serving_default": module.tag}
    for name in ("attention", "refuse", "read", "square", "count", "wait"):
        signatures[name] = getattr(module, name)
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base


@pytest.fixture(scope="session")
def words_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("words")
    for version, factor in ((1, 2), (2, 3)):
        module = Words(factor)
        tf.saved_model.save(module, str(base / str(version)), signatures=module.join)
    for junk in ("3.tmp", "tmp-4", "-5", "latest", "٦"):
        (base / junk).mkdir()
    (base / "7").write_text("a file, not a version")
    return base


@pytest.fixture(scope="session")
def echo_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("echo")
    module = Echo()
    tf.saved_model.save(module, str(base / "1"), signatures=module.signatures())
    return base


@pytest.fixture(scope="session")
def tagger(tagger_base):
    with Server(tagger_base, "m", port=0) as server:
        yield Raw(server.port)


@pytest.fixture(scope="session")
def words(words_base):
    with Server(words_base, "m", port=0) as server:
        yield Raw(server.port)


@pytest.fixture(scope="session")
def echo(echo_base):
    with Server(echo_base, "m", port=0) as server:
        yield Raw(server.port)
