"""The names that `keras_tagger.serving` exports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_tagger import client, serving


@pytest.mark.parametrize("name", ["AsyncClient", "Client", "Tls"])
def test_clients_have_moved(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"use keras_tagger.client.{name}"):
        assert getattr(serving, name) is getattr(client, name)


def test_public_names() -> None:
    from keras_tagger.serving import flags, server

    assert (serving.Flags, serving.Server, serving.serve) == (flags.Flags, server.Server, server.serve)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = serving.no_such_name


def test_importing_is_light() -> None:
    code = "import sys, keras_tagger.serving, keras_tagger.serving.flags; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "grpc", "tornado", "numpy"} & set(done.stdout.split())
