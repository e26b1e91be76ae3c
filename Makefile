# Everything a fresh machine with python3 (3.11 or newer), make and git needs: `make demo`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV := $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --quiet

.DEFAULT_GOAL := help
.PHONY: help demo ethereum test check redis node browser nginx mutation soak bench bench-check lock clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/run  ## Two settlement engines settle with each other, are killed, and lose nothing.
	@$(BIN)/settlement-core demo $(ARGS)

redis:
	@command -v $${REDIS_SERVER:-redis-server} >/dev/null || { \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && $$as_root apt-get install -qq -y redis-server; }

ethereum: $(VENV)/dev node  ## Two engines settle ether with each other on a real Ethereum node.
	@$(BIN)/python examples/ethereum/settle.py

node:
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends nodejs npm; }
	@ls examples/ethereum/node_modules/@foundry-rs/anvil-*/bin/anvil* >/dev/null 2>&1 || \
	  npm install --no-save --ignore-scripts --no-audit --no-fund --silent --prefix examples/ethereum

browser:
	@command -v $${CHROMIUM:-/usr/bin/chromium} >/dev/null && ls /usr/share/fonts/* >/dev/null 2>&1 || { \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && \
	  $$as_root apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; }

nginx:
	@command -v $${NGINX:-/usr/sbin/nginx} >/dev/null || { \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends nginx-light; }

# Tests start hundreds of processes, which all compile what they import where they may not keep it.
test: check redis node browser nginx  ## Install all that tests need, then run linters, types and all tests.
	$(BIN)/python -m compileall -q -j 2 settlement_core tests benchmarks examples
	$(BIN)/python -m coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=99
	$(BIN)/python -m benchmarks check

check: $(VENV)/dev  ## Linters, formatting and types only.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

mutation: $(VENV)/dev redis node  ## Change what moves money in thousands of ways; the tests must notice. Takes hours.
	$(BIN)/python -m tests.mutation $(ARGS)

soak: $(VENV)/dev redis node  ## The long forms: many lives, kills of workers and Redis, faults of peers. Takes hours.
	$(BIN)/settlement-core demo --settlements 20000 --kills 100 --seed $${SEED:-1}
	$(BIN)/python -m settlement_core.testing.lives --minutes $${LIVES_MINUTES:-60} --seed $${SEED:-1}
	$(BIN)/python -m tests.interop --settlements 5000 --kills 20 --seed $${SEED:-1}
	$(BIN)/python -m tests.redis.kill_loop --settlements 20000 --kills 200 --seed $${SEED:-1}
	CANCEL_STRIDE=1 $(BIN)/python -m pytest --timeout 1800 tests/core/test_cancel_points.py
	CHECK_EXAMPLES=2000 $(BIN)/python -m pytest --timeout 1800 tests/stores tests/redis
	CHECK_STRIDE=1 $(BIN)/python -m pytest --timeout 1800 tests/engines/ethereum/test_check_engine.py
	$(BIN)/python -m tests.engines.ethereum.lying --seeds $${LYING_SEEDS:-2000} --first $${SEED:-1}
	ETHEREUM_KILLS=all $(BIN)/python -m pytest --timeout 3600 tests/engines/ethereum/test_kills.py
	SCHEMATHESIS_EXAMPLES=500 $(BIN)/python -m pytest --timeout 1800 tests/http/test_openapi.py

bench: $(VENV)/dev redis  ## Measure the canonical workload beside the original (needs Node.js) and beside a bare loop.
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/dev redis node  ## Whether speed, beside the original and beside floors, has fallen far below what is committed.
	$(BIN)/python -m benchmarks check

lock:  ## Resolve the exact versions again (needs uv).
	uv pip compile --quiet --universal --no-header --generate-hashes pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --no-header --generate-hashes --group dev pyproject.toml -o requirements-dev.lock
	echo uv | uv pip compile --quiet --universal --no-header --generate-hashes - -o requirements-uv.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("settlement-core needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# uv takes a sixth of pip's time; pip is for those who reach the registry by pip's own settings only.
$(VENV)/run: requirements-uv.lock requirements.lock pyproject.toml $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements-uv.lock
	$(UV) --require-hashes -r requirements.lock || $(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run
	$(UV) --require-hashes -r requirements-dev.lock || $(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

clean:  ## Remove everything that was made here.
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
