# A few verbs. `make demo` and `make test` are all a newcomer needs; both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
# Tests that bind a renderer, start workers or a server of their own: one process, in this order.
ALONE := tests/pipelines/record tests/pipelines/attempts tests/pipelines/lint $(wildcard tests/pipelines/test_*.py) tests/flows
EXTRAS := tfds,sim,vla,text,index,dev
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check bench docs up down pins clean

demo: .venv  ## Record, ingest, annotate, mix, export and verify real data; print what was made
	@$(BIN)/cotrain demo

test: .venv check  ## Lint, types, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ALONE:%=--ignore=%)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ALONE)

check: .venv  ## Lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: .venv  ## Every benchmark, with ratios against peers
	@for name in ingest rlds_read read export annotators annotators_motion annotators_lam triplets tokens curation mixtures memory residuals operations; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done

docs: .venv  ## Check that the documentation's commands and links exist
	$(BIN)/python -m pytest tests/test_docs.py

up: .venv  ## Start a local Prefect server and worker in the background, and deploy every flow of prefect.yaml
	@$(BIN)/python -m flows.local up

down: .venv  ## Stop them
	@$(BIN)/python -m flows.local down

.venv: $(VENV)/.ready

# Rebuilt when the pins change. uv comes from the venv's own pip, so nothing needs to be installed beforehand.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { echo "cotrain needs Python 3.12 or newer; set PYTHON=..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@start=$$(date +%s); $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[$(EXTRAS)]" \
		&& echo "installed in $$(( $$(date +%s) - start )) s"
	@touch $@

pins: .venv  ## Resolve constraints.txt again: versions only, no download addresses
	$(BIN)/uv pip compile --quiet --all-extras --python-version 3.12 --no-header --no-annotate \
		--upgrade pyproject.toml -o constraints.txt

clean:  ## Remove the environment and everything the demo made
	rm -rf $(VENV) demo lake
