# make serve    install what is missing and start the demo; CONFIG=configs/X.yaml and PORT=N choose another, MPS=1 shares a GPU by NVIDIA's MPS
# make lint     style and types
# make unit     the tests that start no service, in parallel; `make integration` and `make e2e` those that start one
# make test     all of that, to the end, whatever fails on the way
# make fuzz     for every night: thousands of damaged requests against the real engine; SEED=N sends those of another night again
.PHONY: install serve lint unit integration e2e test fuzz clean
.NOTPARALLEL:
CONFIG ?= configs/demo.yaml
PYTHON ?= python3
BIN := .venv/bin
# Assertions that pytest has rewritten are kept beside the tests: to rewrite them takes a worker 4 s.
unexport PYTHONDONTWRITEBYTECODE

install: .venv/.installed
	@:

.venv/.installed: pyproject.toml tools/install.py $(wildcard serve_app/torch_cpu/_tv*)
	@$(PYTHON) tools/install.py .venv
	@touch $@

.venv/.installed-test: .venv/.installed tools/browser.py tools/debian.py
	@$(PYTHON) tools/install.py .venv load test
	@$(PYTHON) tools/browser.py
	@touch $@

serve: install
	@exec $(BIN)/python -m serve_app up $(CONFIG) $(if $(PORT),--port $(PORT)) $(if $(MPS),--mps)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: .venv/.installed-test
	$(BIN)/python -m pytest tests/unit -n 4 --dist worksteal

integration e2e: .venv/.installed-test
	$(BIN)/python -m pytest tests/$@

test: .venv/.installed-test
	@$(MAKE) --keep-going lint unit integration e2e

fuzz: .venv/.installed-test
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache
