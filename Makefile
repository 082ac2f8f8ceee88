PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
JOBS ?= 2

.PHONY: demo test quick lint format clean

demo: $(VENV)/.run
	$(BIN)/python examples/make_music.py $(DEMO)/music
	$(BIN)/jatsr build $(DEMO)/music $(DEMO)/dataset
	$(BIN)/jatsr verify $(DEMO)/dataset
	$(BIN)/jatsr info $(DEMO)/dataset

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS)

quick: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "jatsr needs Python >= 3.11; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,av]'
	# The reference of the parity test; what it depends on pins an old protobuf and is stubbed.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps descript-audio-codec==1.0.0
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
