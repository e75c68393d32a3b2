"""The flags of `keras-tagger serve`: names and values as tensorflow_model_server takes them."""

from __future__ import annotations

import argparse

import pytest

from keras_tagger.errors import ServingError
from keras_tagger.serving.flags import Flags, add_flags, flags_of


def parsed(*words: str, directory: str | None = "exported") -> tuple[Flags, dict[str, object]]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return flags_of(parser.parse_args(words), directory)


def test_only_what_was_given_is_given() -> None:
    flags, given = parsed("--port", "1", "--rest_api_port=2")
    assert given == {"port": 1, "rest_api_port": 2, "model_base_path": "exported"}
    assert (flags.port, flags.rest_api_port, flags.model_name, flags.host) == (1, 2, "keras_tagger", "127.0.0.1")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching=1"], True),
        (["--enable_batching=FALSE"], False),
        (["--enable_batching", "0"], False),
        ([], None),
    ],
)
def test_truth_is_written_as_there(words: list[str], expected: bool | None) -> None:
    assert parsed(*words)[0].enable_batching is expected


def test_a_base_path_or_a_config_file_is_enough() -> None:
    assert parsed("--model_base_path", "there", directory=None)[0].model_base_path == "there"
    assert parsed("--model_config_file", "models.config", directory=None)[0].model_base_path == ""
    with pytest.raises(ServingError, match="serve: expected DIR or --model_config_file. Received: neither"):
        parsed(directory=None)


def test_channel_arguments() -> None:
    flags = Flags(grpc_channel_arguments="grpc.max_connection_age_ms=2000,grpc.name=x")
    assert flags.channel_arguments() == [("grpc.max_connection_age_ms", 2000), ("grpc.name", "x")]
    with pytest.raises(ServingError, match="expected name=value,name=value. Received: 'nonsense'"):
        Flags(grpc_channel_arguments="nonsense").channel_arguments()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"port": 8500, "rest_api_port": 8500}, "rest_api_port: expected a port other than --port. Received: 8500"),
        ({"port": 70000}, "port: expected 0 to 65535. Received: 70000"),
        ({"grpc_max_threads": 0}, "grpc_max_threads: expected at least 1. Received: 0"),
        ({"batching_parameters_file": "x"}, "batching_parameters_file: expected --enable_batching too"),
    ],
)
def test_values_that_cannot_be(values: dict[str, object], text: str) -> None:
    with pytest.raises(ServingError, match=text):
        Flags(**values)  # type: ignore[arg-type]
