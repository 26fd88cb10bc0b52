# The project's whole vocabulary. Each verb works alone on a machine with Python 3.11 and make.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: setup run test soak train lint bench proto sdk docs lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
PIP := PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet
export PYTHONDONTWRITEBYTECODE ?=

setup: $(STAMP)  ## virtual environment with the locked dependencies, this project in place

$(STAMP): requirements.lock pyproject.toml protos/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "marketcal needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (about a minute)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable ./protos --editable .
	@touch $@

lock:  ## compile requirements.lock anew from both pyproject files
	@uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --no-emit-package marketcal --no-emit-package marketcal-platform \
	  --extra all --extra dev pyproject.toml protos/pyproject.toml --output-file requirements.lock

PROTO_STAMP := .venv-proto/.locked
$(PROTO_STAMP): protos/requirements-tools.txt
	@test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	@PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-proto/bin/python -m pip --quiet install -r protos/requirements-tools.txt
	@touch $@

proto: $(PROTO_STAMP)  ## generated code from the contract; lint and breaking check where Node is present
	@.venv-proto/bin/python protos/generate.py
	@test ! -x $(BIN)/ruff || $(BIN)/python protos/derive.py
	@.venv-proto/bin/python protos/generate.py --image .venv-proto/now.binpb
	@if command -v npx >/dev/null; then \
	  npx --yes @bufbuild/buf@1.75.0 lint .venv-proto/now.binpb --config protos/buf.yaml && \
	  npx --yes @bufbuild/buf@1.75.0 breaking .venv-proto/now.binpb --against protos/released.binpb --config protos/buf.yaml && \
	  echo "contract: lint and breaking check passed"; \
	else echo "contract: Node is absent, buf lint and breaking check left out"; fi

export OMP_NUM_THREADS ?= 1
UP := $(if $(PORT),--port $(PORT)) $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(VENUE),--venue $(VENUE)) $(if $(ONCE),--once)

run: $(STAMP)  ## everything on this machine; ONCE=1 PORT= ARCHIVE= VENUE=polymarket
	@exec $(BIN)/marketcal up $(UP)

test: $(STAMP) $(PROTO_STAMP)  ## every test with bounded versions of the long ones
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not (soak or ray or prefect)"
	@$(BIN)/python -m pytest -m "(ray or prefect) and not soak"

soak: $(STAMP) $(PROTO_STAMP)  ## the long tests with their full figures
	@$(BIN)/python -m pytest -m soak -s

lint: $(STAMP)  ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >.venv/imports.log || { cat .venv/imports.log; exit 1; }
	@echo "lint: clean"

bench: $(STAMP)  ## what it does and how fast, beside what one would use instead
	@$(BIN)/python -m benchmarks

TRAIN_STAMP := .venv-train/.installed
$(TRAIN_STAMP): pyproject.toml
	@test -x .venv-train/bin/python || $(PYTHON) -m venv .venv-train
	@echo "installing PyTorch and what else training needs into .venv-train"
	@PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-train/bin/python -m pip --quiet install --editable ./protos --editable '.[train]'
	@touch $@

DATA ?= $(wildcard ../shared/data/dev)
train: $(TRAIN_STAMP)  ## the native model's weights and card; DATA= recorded markets, ARGS="--steps …"
	@OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 .venv-train/bin/python -m forecast_service.training $(if $(DATA),--data "$(DATA)") $(ARGS)

sdk: $(STAMP) $(PROTO_STAMP)  ## wheels of the client and of the platform, and the TypeScript client, in dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./protos .
	@if command -v npm >/dev/null; then $(BIN)/python protos/typescript/build.py dist/typescript; \
	else echo "Node is absent: the TypeScript client is left out"; fi
	@ls dist

docs: $(STAMP)  ## the generated parts of the documents
	@$(BIN)/python docs/generate.py

clean:  ## what can be made again; var/ too
	@rm -rf $(VENV) .venv-proto .venv-train var dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
