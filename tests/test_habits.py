"""The files around the package: metadata, Makefile, CI, hooks and templates agree with each other."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def pythons(setup: configparser.ConfigParser) -> list[str]:
    found = re.findall(r"(?m)^Programming Language :: Python :: (3\.\d+)$", setup["metadata"]["classifiers"])
    assert found
    return found


def targets(path: str) -> list[str]:
    """The make targets that a script or a page names, in order."""
    return re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z][a-z-]*)", (ROOT / path).read_text("utf-8"))


# --- metadata ----------------------------------------------------------------------------------------------------


def test_metadata_is_complete(setup):
    metadata = setup["metadata"]
    for name in ("name", "description", "author", "maintainer", "url", "license", "long_description", "keywords"):
        assert metadata[name].strip()
    for entry in lines(metadata["project_urls"]):
        assert re.fullmatch(r"[A-Z][\w ]* = https://\S+", entry)
    for path in [*lines(metadata["license_files"]), metadata["long_description"].removeprefix("file: ")]:
        assert (ROOT / path).is_file()
    assert setup["options.entry_points"]["console_scripts"].strip() == "keras-tagger = keras_tagger.cli:main"
    assert {"io", "pretrain", "pytorch", "docs", "dev"} <= set(setup["options.extras_require"])


def test_python_versions_agree(setup):
    versions = pythons(setup)
    first, last = (int(versions[index].partition(".")[2]) for index in (0, -1))
    assert versions == [f"3.{minor}" for minor in range(first, last + 1)]
    assert setup["options"]["python_requires"] == f">=3.{first},<3.{last + 1}"
    assert setup["mypy"]["python_version"] == versions[0]
    for path in ("Makefile", "CONTRIBUTING.md", "README.md"):
        assert re.search(rf"3\.{first}\s+to\s+3\.{last}\b", (ROOT / path).read_text("utf-8"))


# --- make, CI ----------------------------------------------------------------------------------------------------


def test_targets_are_documented_and_exist():
    phony = re.search(r"(?m)^\.PHONY: (demo .*)$", (ROOT / "Makefile").read_text("utf-8"))
    assert phony is not None
    known = phony[1].split()
    assert re.findall(r"(?m)^\| `make ([a-z-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8")) == known
    assert set(targets(".ci/run")) == {*known} - {"demo", "clean"}
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)


def test_the_workflow_runs_what_ci_runs(setup):
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["python"] == pythons(setup)
    assert [row["tensorflow"] for row in matrix["include"]] == matrix["tensorflow"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert sum("${{ matrix.target }}" in step for step in steps) == 1
    ran = [*targets(".github/workflows/ci.yml"), *(row["target"] for row in matrix["include"])]
    assert {*ran} == {*targets(".ci/run"), "demo"}
    # tensorflow-io limits [io] in setup.cfg; elsewhere the job would test the newest TensorFlow under a wrong name.
    limit = re.search(r'tensorflow-io.*python_version < "3\.(\d+)"', setup["options.extras_require"]["io"])
    assert limit is not None
    without = {version for version in matrix["python"] if int(version.partition(".")[2]) >= int(limit[1])}
    assert {row["python"] for row in matrix["exclude"]} == without
    assert {row["tensorflow"] for row in matrix["exclude"]} == {matrix["tensorflow"][0]}


# --- hooks, templates --------------------------------------------------------------------------------------------


def test_hooks_run_tools_of_the_environment(setup):
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert {"ruff", "ruff-format", "mypy", "import-rule", "check-yaml", "end-of-file"} <= {hook["id"] for hook in hooks}
    scripts = Path(sys.executable).parent
    for hook in hooks:
        assert hook["language"] == "system"
        tool, *arguments = hook["entry"].split()
        if tool == "python":
            assert (ROOT / arguments[0]).is_file()
        else:
            assert shutil.which(tool, path=str(scripts)), tool
    packages = {re.split(r"[>\[]", line)[0] for line in lines(setup["options.extras_require"]["dev"])}
    assert {"pre-commit", "pre-commit-hooks", "check-jsonschema", "ruff", "mypy"} <= packages


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms(name):
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"]]
    assert len(fields) == len(set(fields)) == 3
    assert form["body"][0]["validations"]["required"] is True


# --- the first minute --------------------------------------------------------------------------------------------


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python without ensurepip, as in Debian without python3-venv."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ensurepip.py").write_text("raise ModuleNotFoundError('No module named ensurepip')\n")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "blocked"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def make(tmp_path: Path, target: str, python: object) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "-C", str(ROOT), f"VENV={tmp_path}/venv", f"NEWEST={tmp_path}/newest"]
    # Without the variables of the make that runs this suite, which would count it as an outer level.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    command += [f"PYTHON={python}", target]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["demo", "test", "test-newest"])
def test_make_names_the_missing_apt_package(tmp_path, bare_python, target):
    done = make(tmp_path, target, bare_python)
    version = ".".join(map(str, sys.version_info[:2]))
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 2
    assert done.stdout == ""
    assert first == (
        f"make: {bare_python} cannot create virtual environments. "
        f"On Debian and Ubuntu: sudo apt-get install python{version}-venv"
    )
    assert all(re.match(r"make: \*\*\* \[.*\] Error 1$", line) for line in rest)
    assert not (tmp_path / "venv").exists()


def test_make_without_python_says_what_to_install(tmp_path):
    done = make(tmp_path, "demo", "")
    assert done.returncode == 2
    assert done.stderr.startswith("make: expected Python 3.10 to 3.13 on PATH, or PYTHON=/path/to/python. ")
    assert "sudo apt-get install python3 python3-venv" in done.stderr.splitlines()[0]
