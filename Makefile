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
	@uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --no-emit-package marketcal --no-emit-package marketcal-platform \
	  --all-extras pyproject.toml protos/pyproject.toml --output-file requirements.lock

PROTO_STAMP := .venv-proto/.locked
$(PROTO_STAMP): protos/requirements-tools.txt
	@test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	@PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-proto/bin/python -m pip --quiet install -r protos/requirements-tools.txt
	@touch $@

proto: $(PROTO_STAMP)  ## generated code from the contract; lint and breaking check where Node is present
	@.venv-proto/bin/python protos/generate.py
	@.venv-proto/bin/python protos/generate.py --image .venv-proto/now.binpb
	@if command -v npx >/dev/null; then \
	  npx --yes @bufbuild/buf@1.75.0 lint .venv-proto/now.binpb --config protos/buf.yaml && \
	  npx --yes @bufbuild/buf@1.75.0 breaking .venv-proto/now.binpb --against protos/released.binpb --config protos/buf.yaml && \
	  echo "contract: lint and breaking check passed"; \
	else echo "contract: Node is absent, buf lint and breaking check left out"; fi
