# Every target sets up what it needs by itself: see scripts/setup.sh.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS :=
BENCHMARKS := $(wildcard benchmarks/*.py)

.PHONY: help demo test test-slow napari lint format types bench reproduce docs docs-images

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## phantom brain, a generated region, attention of two genes, ranked structures, pictures
	@scripts/timed.sh "make demo" bash -c 'scripts/setup.sh && $(BIN)/python scripts/demo.py $(ARGS)'

# Two processes, each with a display of its own; a file's tests stay together, as they share fixtures.
test: ## the tests (ARGS="..." goes to pytest)
	@scripts/timed.sh "make test" bash -c \
	    'scripts/setup.sh && $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)'

test-slow: ## the tests that take minutes each
	@scripts/timed.sh "make test-slow" bash -c 'scripts/setup.sh && $(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)'

napari: ## napari with this plugin
	@scripts/setup.sh
	@$(BIN)/napari $(ARGS)

lint: ## ruff, import contracts, plugin manifest
	@scripts/setup.sh
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/npe2 validate napari-teramind

format: ## put the code into ruff's format
	@scripts/setup.sh
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: ## mypy
	@scripts/setup.sh
	@$(BIN)/mypy

bench: ## the benchmarks (BENCHMARKS="benchmarks/one.py" picks some)
	@scripts/timed.sh "make bench" bash -c \
	    'scripts/setup.sh && for file in $(BENCHMARKS); do echo "== $$file" && $(BIN)/python $$file || exit 1; done'

reproduce: ## the paper's protocol on phantom animals, within an hour: build/reproduce/report.html
	@scripts/timed.sh "make reproduce" bash -c \
	    'scripts/setup.sh && $(BIN)/teramind reproduce studies/phantom.toml $(ARGS)'

docs: ## the documentation as HTML in docs/_build
	@scripts/setup.sh dev docs
	@$(BIN)/sphinx-build -W -q docs docs/_build
	@echo "docs/_build/index.html"

docs-images: ## the screenshots in docs/images
	@scripts/timed.sh "make docs-images" bash -c 'scripts/setup.sh && $(BIN)/python scripts/screenshots.py $(ARGS) && $(BIN)/python scripts/screenshots_attention.py'
