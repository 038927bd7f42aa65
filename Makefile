# make env | demo | test | torture | check | format. Variables: PYTHON, TORCH_INDEX, CORPUS and PLAIN_TEXT (demo), ARGS (test),
# WORKERS (test), KILLS (torture).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help env demo test torture check format

# The first Python that will do; its CUDA torch, if it has one, is the torch that is used.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
    $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# PyPI's torch for Linux carries gigabytes of CUDA; a machine without a GPU takes the CPU build where this index can be
# reached, else what pip's own indexes have. Empty: only pip's own indexes. With a GPU of old driver: .../whl/cu126.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
KILLS ?= 125
# Processes that test at once: each takes up to four cores for moments, and 3 GB.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HAS_CUDA_TORCH := -c 'import sys, torch; \
    sys.exit(not (torch.version.cuda and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 12)))' 2>/dev/null

help:
	@echo 'make env     set up .venv with the pinned dependencies'
	echo 'make demo    text to an exported ALBERT, in minutes; CORPUS="files or folders" for your own text'
	echo 'make test    the tests; ARGS="-k masks" for some of them'
	echo 'make torture training killed 125 times at random moments, in 20 minutes; KILLS=n for fewer or more'
	echo 'make check   format, lint and types; make format puts the format right'

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'env: no Python 3.11, 3.12 or 3.13 found; name one: make env PYTHON=...' >&2; exit 1; }
	export PIP_DISABLE_PIP_VERSION_CHECK=1
	begin=$$SECONDS
	step() { echo "env: $$1 ($$((SECONDS - begin)) s)"; begin=$$SECONDS; }
	pip() { $(BIN)/python -m pip install -qq --constraint $(VENV)/constraints.txt "$$@"; }
	$(PYTHON) -m venv $(VENV) $$($(PYTHON) $(HAS_CUDA_TORCH) && echo --system-site-packages || true)
	cp constraints.txt $(VENV)/constraints.txt
	step "$$($(BIN)/python --version) in $(VENV)"
	if $(BIN)/python $(HAS_CUDA_TORCH); then
	    sed -i '/^torch==/d' $(VENV)/constraints.txt
	else
	    index='$(TORCH_INDEX)'
	    if [ -n "$$index" ] && $(BIN)/python -c 'import sys, urllib.request; \
	        urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)' "$$index" 2>/dev/null; then
	        pip --no-deps --extra-index-url "$$index" torch
	    fi
	    pip torch
	fi
	pip numpy setuptools wheel ninja py-cpuinfo
	step "torch $$($(BIN)/python -c 'import torch; print(torch.__version__)')"
	pip --no-build-isolation deepspeed
	step 'deepspeed, built for this torch'
	pip --no-build-isolation --editable '.[data,dev,export]'
	step 'all other packages, and litebert itself'
	touch $@

demo: env
	@$(BIN)/python launcher/demo.py $(addprefix --corpus ,$(CORPUS)) $(addprefix --plain-text ,$(PLAIN_TEXT))

# A file's tests share what they made, so they stay in one process.
test: env
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

torture: env
	@$(BIN)/python -m tests.distributed.torture --kills $(KILLS)

check: env
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: env
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
