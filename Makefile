# Each target does its own set-up, given Python 3.10 to 3.13: make PYTHON=python3.13 demo
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10 python3.13 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
NEWEST := .venv-newest
# Named after the Python version, so that another PYTHON makes the environment anew.
DONE := .installed-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

.PHONY: demo test test-newest lint clean

# A fresh run every time: the demo shows the whole way.
demo: $(VENV)/$(DONE)
	$(VENV)/bin/python tools/demo.py --out_dir demo

# A process per core: tracing graphs, which is most of the time, keeps one busy.
TEST := -m pytest -n auto --dist loadfile

test: $(VENV)/$(DONE)
	$(VENV)/bin/python $(TEST)

# The newest TensorFlow that setup.cfg allows, without tensorflow-io.
test-newest: $(NEWEST)/$(DONE)
	$(NEWEST)/bin/python $(TEST)

lint: $(VENV)/$(DONE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) $(NEWEST) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: .venv
.venv: $(VENV)/$(DONE)

# [io] brings tensorflow-io, and with it TensorFlow 2.17, where Python has them (up to 3.12).
$(VENV)/$(DONE): EXTRAS := [dev,io]
$(NEWEST)/$(DONE): EXTRAS := [dev]

%/$(DONE): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.10 to 3.13 on PATH, or PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("make: expected Python 3.10 to 3.13. Received: $(PYTHON), which is %d.%d" % v)'
	$(PYTHON) -m venv --clear $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip "setuptools<81" wheel
	$*/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$(EXTRAS)"
	@touch $@
