# make serve    install what is missing and start the demo; CONFIG=configs/X.yaml and PORT=N choose another, MPS=1 shares a GPU by NVIDIA's MPS
# make test     lint, types and every test
# make fuzz     for every night: thousands of damaged requests against the real engine; SEED=N sends those of another night again
.PHONY: install serve test fuzz lint clean
CONFIG ?= configs/demo.yaml
PYTHON ?= python3
BIN := .venv/bin

install: .venv/.installed
	@:

.venv/.installed: pyproject.toml tools/install.py $(wildcard serve_app/torch_cpu/_tv*)
	@$(PYTHON) tools/install.py .venv
	@touch $@

.venv/.installed-test: .venv/.installed
	@$(PYTHON) tools/install.py .venv load test
	@touch $@

serve: install
	@exec $(BIN)/python -m serve_app up $(CONFIG) $(if $(PORT),--port $(PORT)) $(if $(MPS),--mps)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

fuzz: .venv/.installed-test
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache
