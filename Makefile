# Each target sets up .venv by itself when it is missing or older than the pins.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
TASK ?= h4
ARGS ?=
ADDRESS ?= http://127.0.0.1:8265
# What is measured by `make bench`, and the model whose vocabulary benchmarks.encoding reads.
BENCHMARKS = encoding throughput scaling overhead sweep tracking compare_runs memory
BENCH_MODEL ?= bert-base-uncased
# Quick figures are rough: they do not replace those that are kept.
RESULTS = $(if $(findstring --quick,$(ARGS)),.cache/benchmarks,benchmarks/results)
RUN = PATH="$(CURDIR)/.venv/bin:$$PATH" mlflow run . --env-manager local

.PHONY: help setup demo sweep job test bench format
help:
	@echo "make demo             compare three inits of a tiny BERT on a generated toy task (about 3 minutes)"
	@echo "make sweep TASK=h4    the real job; more parameters: ARGS=\"-P grid=quick -P seeds=3\""
	@echo "make job TASK=h4      the same on a Ray cluster: ADDRESS=http://HOST:PORT (docs/clusters.md)"
	@echo "make test             lint, types and tests"
	@echo "make bench            speed, beside peers and targets; ARGS=--quick for a first look"
	@echo "make setup            only make .venv"
	@echo "make format           format the code"

setup: .venv/ready

.venv/ready: conda.yaml constraints.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	sed -n 's/^ *- \(.*==.*\)$$/\1/p' conda.yaml > .venv/requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement .venv/requirements.txt --requirement requirements-dev.txt --constraint constraints.txt
	@touch $@

demo: setup
	$(RUN)

sweep: setup
	$(RUN) -e sweep -P task=$(TASK) $(ARGS)

# Sends the working tree, with .git, so that the runs name its commit; the token is ~/.ray/auth_token or RAY_AUTH_TOKEN.
job: setup
	RAY_AUTH_MODE=token RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES=.venv .venv/bin/ray job submit --address $(ADDRESS) \
		--working-dir . -- mlflow run . -e sweep --env-manager local -P task=$(TASK) -P ray_address=auto $(ARGS)

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

# Runs all of them, whatever one of them misses; the last line says which did.
bench: .venv/bench
	@missed=; for name in $(BENCHMARKS); do echo; \
		.venv/bin/python -m benchmarks.$$name --output $(RESULTS)/$$name.json \
			$$(test $$name = encoding && echo --model $(BENCH_MODEL)) $(ARGS) || missed="$$missed $$name"; \
	done; echo; test -z "$$missed" || { echo "missed a target, or failed:$$missed"; exit 1; }

.venv/bench: .venv/ready benchmarks/requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement benchmarks/requirements.txt --constraint constraints.txt
	@touch $@

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
