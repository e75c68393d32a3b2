"""The command line as a whole: help, exit status, spelling of flags, messages."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from absl import logging as absl_logging

from keras_tagger import __version__
from keras_tagger.cli.app import log_plainly, parse
from keras_tagger.errors import AudioWarning, ConfigError

# Of every command, a command line with every flag whose name has two words.
COMMAND_LINES = {
    "tag": "song-1.mp3 --merge_synonyms --top 3",
    "write": "song-1.mp3 --model my-model --apply --keep_mtime --journal my-journal",
    "playlist": "my-tag&!other-tag --scores my-tags.jsonl --by my-tag",
    "explain": "song-1.mp3 --tags no-vocals",
    "catalog": "my-music --out my-catalogue --top_contributions 3 --retry_errors --shard_rows 9 --engine_option a-b=c",
    "search": "my-catalogue --like song-1.mp3 --near 1:12",
    "models": "my-runs --format json",
    "fit": "my-config.yaml --run_dir runs/my-run --workers one:1,two:2 --worker_index 0 --set training.epochs=3",
    "sweep": "my-config --data my-music --grid training.seed=0,1 --sweep_dir runs/my-sweep",
    "distill": "--data my-music --run_dir runs/my-run --held_out 0.3 --set training.epochs=3",
    "evaluate": "my-model --data mtat --root a-b --split_index 2 --allow_missing --min_positives 2 --n_chunks=16",
    "compare": "report-a report-b --seed 1",
    "import-checkpoint": "best-model.pth --architecture won2020 --tags my-tags.txt --out a-b",
    "export": "my-model a-b --check",
    "serve": (
        "a-b --model_base_path c-d --model_name my-model --rest_api_port=8501 --model_config_file m-c.config "
        "--model_config_file_poll_wait_seconds 1 --file_system_poll_wait_seconds 2 --num_load_threads 2 "
        "--saved_model_tags serve,a-b --max_num_load_retries 3 --max_request_seconds 60 --enable_model_management "
        "--load_retry_interval_micros 4 --allow_version_labels_for_unavailable_models --enable_model_warmup=false "
        "--enable_batching true --batching_parameters_file b-p --monitoring_config_file m-c --ssl_config_file s-c "
        "--access_log --enable_tracing --grpc_socket_path a-b.sock --enable_grpc_healthcheck_service=0 "
        "--grpc_channel_arguments=grpc.a-b=1 --grpc_max_threads 5 "
        "--rest_api_timeout_in_ms 6 --rest_api_num_threads 7 --rest_api_enable_cors_support "
        "--tensorflow_session_parallelism 8 --tensorflow_intra_op_parallelism 9 "
        "--tensorflow_inter_op_parallelism 10 --max_message_bytes 11 --grace_seconds 12"
    ),
    "request": (
        "song-1.mp3 --merge_synonyms --model_name my-model --model_version_label my-label --root_certificates r-c.pem "
        "--client_certificate c-c.pem --client_key c-k.pem --server_name a-b.example"
    ),
    "request by version": "song-1.mp3 --model_version 3",
    "data check": "my-music --split_index 1 --min_clips 3",
    "data prepare": "my-music --split_index=1 --allow_missing --sample_rate 8000 --out a-b",
}


def words_of(name: str) -> list[str]:
    return [*name.removesuffix(" by version").split(), *shlex.split(COMMAND_LINES[name])]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from keras_tagger.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'tensorflow', 'keras', 'kapre', 'sklearn', 'matplotlib', 'librosa', 'grpc', 'tqdm'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "keras-tagger fit --data my_music/" in done.stdout
    assert "exit status: 0 success" in done.stdout


@pytest.mark.parametrize("command", [name for name in COMMAND_LINES if "by version" not in name])
def test_help_of_a_command_has_examples(call, command):
    status, out, _ = call(*command.split(), "--help")
    examples = re.findall(rf"(?m)^  keras-tagger {command} .+", out.partition("examples:")[2])
    assert status == 0
    assert examples
    for example in examples:
        # Comments and shell syntax are for the reader.
        words = shlex.split(re.sub(r" {2,}\(.*| > .*", "", example))
        assert callable(parse(words[1:]).run)


def test_every_command_is_in_the_help(call):
    commands = {name.split()[0] for name in COMMAND_LINES}
    assert set(re.findall(r"(?m)^    ([a-z-]+)(?: |$)", call("--help")[1])) == commands
    assert set(re.findall(r"(?m)^    ([a-z-]+) ", call("data", "--help")[1])) == {"check", "prepare"}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_both_spellings_of_flags_parse_equally(name):
    words = words_of(name)
    dashed = [re.sub(r"^--[a-z_]+", lambda flag: flag[0].replace("_", "-"), word) for word in words]
    assert dashed != words or name in (
        "playlist",
        "explain",
        "search",
        "models",
        "compare",
        "import-checkpoint",
        "export",
    )
    assert parse(dashed) == parse(words)


@pytest.mark.parametrize("name", [name for name in COMMAND_LINES if "by version" not in name])
def test_both_spellings_are_tested_for_every_flag(call, name):
    shown = set(re.findall(r"(?m)^  (--[a-z]+_[a-z_]+)", call(*name.split(), "--help")[1]))
    tested = " ".join(line for key, line in COMMAND_LINES.items() if key.startswith(name))
    assert shown <= set(re.findall(r"--[a-z_]+", tested))


def test_only_names_of_flags_are_respelled():
    arguments = parse(["fit", "my-config.yaml", "--set=a-b.c-d=e-f", "--run-dir=my-runs/a-b", "--data", "my-data"])
    assert (arguments.config, arguments.set, arguments.run_dir, arguments.data) == (
        *("my-config.yaml", ["a-b.c-d=e-f"]),
        *("my-runs/a-b", "my-data"),
    )
    assert parse(["tag", "--merge-synonyms", "--", "--my-song.mp3", "-x-y.mp3"]).files == ["--my-song.mp3", "-x-y.mp3"]


def test_version(call):
    assert call("--version") == (0, f"keras_tagger {__version__}\n", "")


@pytest.mark.parametrize(
    "words", [(), ("tag",), ("sing", "a.wav"), ("tag", "a.wav", "--topp", "3"), ("data",)], ids=str
)
def test_a_wrong_command_line_is_status_2(call, words):
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert err.startswith("usage: keras-tagger")


@pytest.mark.parametrize(
    ("words", "status"), [(("--version",), 0), (("tag",), 2), (("compare", "absent", "absent"), 1)]
)
def test_the_process_has_the_exit_status(words, status):
    done = subprocess.run([sys.executable, "-m", "keras_tagger", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


# The command `compare`, replaced by one that leaves work to the end of the process.
COMMAND = """
import atexit, sys, threading, time, types
from keras_tagger.cli import app, compare

class Dismantled:
    def __del__(self, write=sys.__stderr__.write):
        write("dismantled")

def run(arguments):
    sys.modules["kept"] = types.ModuleType("kept")
    sys.modules["kept"].last = Dismantled()
    atexit.register(lambda: print("handler"))
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
    print("answer " * 30_000)
    return 3

compare.run = run
sys.argv = ["keras-tagger", "compare", "a", "b"]
app.main()
"""


@pytest.mark.parametrize("used", [True, False])
def test_tensorflow_is_left_without_dismantling_it(used):
    """Threads and handlers have ended, and everything is written; only the interpreter is not taken down."""
    loaded = "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n" if used else ""
    done = subprocess.run([sys.executable, "-c", loaded + COMMAND], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == "answer " * 30_000 + "\nthread\nhandler\n"
    assert done.stderr == ("" if used else "dismantled")


@pytest.mark.parametrize(("redirection", "status"), [("| head -c 1", 0), (">&-", 3), (">/dev/full", 1)])
def test_a_closed_or_full_stdout_when_tensorflow_was_used(tmp_path, redirection, status):
    (tmp_path / "command.py").write_text(
        "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        + COMMAND.replace('print("handler")', "None").replace('print("thread")', "None")
    )
    line = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'command.py'))}"
    shell = (
        f"({line}; echo $? >status) {redirection}"
        if "head" in redirection
        else f"{line} {redirection}; echo $? >status"
    )
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "status").read_text() == f"{status}\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_absl_flags_are_accepted():
    command = [sys.executable, "-m", "keras_tagger", "--verbosity=-1", "compare", "absent", "absent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("keras-tagger: expected ")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "keras-tagger: interrupted\n"),
        (ConfigError("name: expected a file name."), 1, "keras-tagger: name: expected a file name.\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (OSError(5, "Bad disk"), 1, "keras-tagger: expected to read and write files. Received: [Errno 5] Bad disk.\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_exit_status_after_an_exception(call, monkeypatch, error, status, message):
    def load(model: str) -> None:
        raise error

    monkeypatch.setattr("keras_tagger.tagger.load", load)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # a failing write replaces it
    assert call("tag", "song.mp3") == (status, "", message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("form", [(), ("--csv",)], ids=["text", "csv"])
def test_a_full_disk_is_one_sentence(form):
    """In a process, as it also ends with a flush; of a made-up model, so that TensorFlow is not imported."""
    code = (
        "import runpy, sys, types\n"
        "import numpy as np\n"
        "from keras_tagger.tags import Tags\n"
        "tags = Tags(('low',), np.array([0.75], np.float32), np.array([True]), np.array([True]))\n"
        "tagger = types.SimpleNamespace(tag_files=lambda files, *_: ((file, tags) for file in files))\n"
        "sys.modules['keras_tagger.tagger'] = types.SimpleNamespace(load=lambda model: tagger)\n"
        "runpy.run_module('keras_tagger', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", code, "tag", "low.wav", *form]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    messages = [line for line in done.stderr.splitlines() if line.startswith("keras-tagger: ")]
    assert len(messages) == 1
    assert messages[0].startswith("keras-tagger: expected to read and write files. Received: [Errno 28]")
    assert "Traceback" not in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "low" in done.stdout


@pytest.mark.parametrize("number", ["0", "-3", "2.5", "all", ""])
def test_top_is_a_whole_number(call, number):
    status, _, err = call("tag", "a.wav", f"--top={number}")
    assert status == 2
    message = f"argument --top: expected a whole number of at least 1, received {number!r}"
    assert err.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fit", "absent.yaml"), "absent.yaml, which does not exist"),
        (("fit", {"training": {"epochs": 0}}), "training.epochs: expected at least 1. Received: 0."),
        (("fit", {"model": {"encodr": {}}}), "model.encodr: unknown key"),
        (("fit", {}), "data.path: expected a manifest"),
        (("tag", "x.wav", "--model", "absent"), "'absent', which does not exist"),
        (("evaluate", "absent.keras", "--data", "x"), "'absent.keras', which does not exist"),
        (("fit", {"training": {"init": "absent"}}), "training.init: expected a pretrained name"),
        (("fit", {"training": {"freeze": "front_end"}}), "training.freeze: expected none if training.init is empty"),
        (("serve", "absent"), "absent"),
        (("serve",), "serve: expected DIR or --model_config_file. Received: neither."),
        (("serve", "absent", "--port", "1", "--rest_api_port", "1"), "expected a port other than --port"),
        (("export",), "expected MODEL and DIR, or --check DIR. Received: neither."),
        (("export", "only"), "expected MODEL and DIR, or --check DIR. Received: only."),
        (("export", "--check", "absent"), "expected a SavedModel, or a folder with numbered versions of one"),
        (("data", "check", "absent.csv"), "absent.csv"),
        (("data", "prepare", "absent", "--out", "x"), "absent"),
    ],
    ids=lambda value: "-".join(str(part) for part in value)[:40] if isinstance(value, tuple) else "",
)
def test_mistakes_get_one_sentence(call, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    if isinstance(arguments[-1], dict):
        (tmp_path / "config.yaml").write_text(json.dumps(arguments[-1]))
        arguments = (*arguments[:-1], "config.yaml")
    status, out, err = call(*arguments)
    assert (status, out) == (1, "")
    message = [line for line in err.splitlines() if line.startswith("keras-tagger: ")]
    assert len(message) == 1
    assert sentence in message[0]
    assert "Traceback" not in err


def test_what_a_listener_must_know_is_one_line(call, monkeypatch):
    """If a command reads audio without a list for warnings."""

    def load(model: str) -> None:
        for text in ("'a.mp3' is silent.", "'a.mp3' is silent.", "'b.mp3' is silent."):
            warnings.warn(AudioWarning("silent", text), stacklevel=1)
        raise ConfigError("enough.")

    monkeypatch.setattr("keras_tagger.tagger.load", load)
    lines = ["warning: 'a.mp3' is silent.", "warning: 'b.mp3' is silent.", "enough."]
    assert call("tag", "song.mp3") == (1, "", "".join(f"keras-tagger: {line}\n" for line in lines))


def test_lines_of_the_log_begin_with_the_name_of_the_program():
    handler = absl_logging.get_absl_handler()
    log_plainly()
    try:
        for level, line in ((logging.WARNING, "keras-tagger: warning: no b"), (logging.INFO, "keras-tagger: no b")):
            values = {"levelno": level, "levelname": logging.getLevelName(level), "msg": "no %s", "args": ("b",)}
            assert handler.format(logging.makeLogRecord(values)) == line
    finally:
        handler.setFormatter(absl_logging.PythonFormatter())
