"""SavedModels of `served_modules`, and the embedded server of each."""

from __future__ import annotations

import pytest
import tensorflow as tf

import unrelated
from keras_tagger.serving.server import Server
from raw_requests import Raw
from served_modules import Echo, Tagger, Words


@pytest.fixture(scope="session")
def tagger_base(shared):
    def save(base):
        module = Tagger()
        signatures = {"serving_default": module.tag}
        for name in ("attention", "refuse", "read", "square", "count", "wait"):
            signatures[name] = getattr(module, name)
        tf.saved_model.save(module, str(base / "1"), signatures=signatures)

    return shared("tagger", save)


@pytest.fixture(scope="session")
def words_base(shared):
    def save(base):
        for version, factor in ((1, 2), (2, 3)):
            module = Words(factor)
            tf.saved_model.save(module, str(base / str(version)), signatures=module.join)
        for junk in ("3.tmp", "tmp-4", "-5", "latest", "٦"):
            (base / junk).mkdir()
        (base / "7").write_text("a file, not a version")

    return shared("words", save)


@pytest.fixture(scope="session")
def echo_base(shared):
    def save(base):
        module = Echo()
        tf.saved_model.save(module, str(base / "1"), signatures=module.signatures())

    return shared("echo", save)


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


@pytest.fixture(scope="session")
def contract(exported, tmp_path_factory):
    """A server of our model and of an unrelated one with two versions and a label, over gRPC and REST."""
    folder = tmp_path_factory.mktemp("contract")
    for version in (1, 2):
        unrelated.save(folder, version)
    config = folder / "models.config"
    config.write_text(f"""
        model_config_list {{
          config {{ name: "ours" base_path: "{exported.parent}" model_platform: "tensorflow" }}
          config {{
            name: "other"
            base_path: "{folder}"
            model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "old" value: 1 }}
          }}
        }}
    """)
    options = {"enable_model_warmup": False, "allow_version_labels_for_unavailable_models": True}
    with Server(model_config_file=str(config), port=0, rest_api_port=-1, **options) as server:
        yield server
