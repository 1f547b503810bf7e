# `make run` and `make test` set a fresh machine up first: they need Python 3.11 or later.
# The lock names everything, so that pip resolves nothing (and does not stumble over extras).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run demo test check bench docs
.DELETE_ON_ERROR:

$(STAMP): requirements.lock pyproject.toml serving-runtime/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e . -e serving-runtime
	touch $@

# The webhook on :8443 and :8080 and its page on :8081, without a cluster; sends itself the example pods
# and stays up. Other ports: make run RUN="--port 18443 --health-port 18080 --page-port 18081"
run: $(STAMP)
	$(BIN)/python -m examples.run --state $(VENV)/run $(RUN)

# A real API server, scheduler and controllers with simulated GPU nodes and the webhook, for
# kubectl in another terminal; Ctrl-C ends it. The first time Kubernetes is built, into a cache.
demo: $(STAMP)
	$(BIN)/python -m tests.controlplane.binaries
	$(BIN)/python -m tests.controlplane.demo

# Everything, on a real control plane; Kubernetes is built once, into a cache outside this folder.
test: $(STAMP)
	$(BIN)/python -m tests.controlplane.binaries
	$(BIN)/python -m pytest -q

# Reviews per second, latency, CPU and memory over TLS; takes some minutes on an idle machine.
bench: $(STAMP)
	$(BIN)/python -m bench

# What is generated from the code: the reference, the chart's files and schema, the dashboards.
docs: $(STAMP)
	$(BIN)/python -m docs.generate
	$(BIN)/python -m tests.chart.generate
	PYTHONPATH=serving-runtime $(BIN)/python -m observability

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy admission mutators validators registries audit webhook
	$(BIN)/mypy serving-runtime/src/tidewaiter_runtime
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m tests.chart.generate --check
	PYTHONPATH=serving-runtime $(BIN)/python -m observability --check
	opa="$$($(BIN)/python -m tests.controlplane.binaries opa | tail -n 1)" && \
	  test -z "$$("$$opa" fmt --list policies)" && "$$opa" check --strict --schema policies/schemas policies && "$$opa" test policies
