# make setup       environment in .venv (Python 3.11 or newer with venv and pip; everything else comes from the registry)
# make quickstart  the whole way once on the embedded neurons: quickstart-out/report/index.html
# make test        style, types and tests (in three processes; TEST_PROCESSES=8 on a larger machine)
# make lint        style, types and the order of the packages alone
# make coverage    the tests, and which lines they reach: htmlcov/index.html
# make docs        the documentation site: site/index.html
# make examples    the notebooks and README blocks, on the output of make quickstart
# make wheel-test  build the wheel, install it where the checkout cannot be seen, run the quickstart from it: build/quickstart-out
# make bench       the benchmarks, one JSON object each; BENCH_OPTIONS=--quick only sees that they run
# make fuzz        ten minutes of damaged files against everything that parses what strangers send: FUZZ_MINUTES=10
# make clean       remove what the commands above made, except .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := quickstart,demo,volumes,cave,cluster,arrays,octarine,vlm,train,endpoint,attribution,environment,croissant,apps,docs,dev
STAMP := $(VENV)/.installed
QUICKSTART_OUT ?= quickstart-out
WHEEL_OUT := build/quickstart-out
FUZZ_MINUTES ?= 10
BENCH_OPTIONS ?=
# Three for two cores: tests wait for servers, browsers and other processes a fifth of their time. With bytecode, since
# they start many processes that import the package.
TEST_PROCESSES ?= 3
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder
BENCHMARKS := render corrections load features train_vision cave proofread evaluate_vlm train_vlm environment neighbourhoods demo
MAKEFLAGS += --no-print-directory

.PHONY: help setup quickstart test lint coverage docs examples wheel-test bench fuzz clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) found: install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: install Python 3.11 or newer, or name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 7 GB with torch; a few minutes the first time)"
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	  $(BIN)/python -m pip install --disable-pip-version-check $$quiet -c constraints.txt -e '.[$(EXTRAS)]' \
	  || { echo "installation did not finish (pip's message is above); run make setup again to go on" >&2; exit 1; }
	@touch $(STAMP)

quickstart: setup
	@$(BIN)/connectomebench quickstart --out $(QUICKSTART_OUT)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports --no-cache

coverage: setup
	@$(PYTEST) --cov --cov-report=term --cov-report=html

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "site/index.html (with search: $(BIN)/python -m http.server --directory site)"

examples: setup
	@$(BIN)/python .ci/examples.py $(QUICKSTART_OUT)

test: lint
	@$(PYTEST)

# The second environment sees the first one's packages through a .pth file; a .pth inside a folder added that way is not
# read, so the editable installation of the checkout stays out of sight.
wheel-test: setup
	@set -eu; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; \
	python="$(CURDIR)/$(BIN)/python"; \
	"$$python" -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir "$$folder/wheel" .; \
	"$$python" -m venv --without-pip "$$folder/venv"; \
	"$$python" -m pip --python "$$folder/venv/bin/python" install --disable-pip-version-check --quiet --no-deps --no-index "$$folder"/wheel/*.whl; \
	cd "$$folder"; \
	"$$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > packages.pth; \
	mv packages.pth "$$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
	venv/bin/python -c 'import sys, pathlib, connectomebench as c; here = pathlib.Path(c.__file__).resolve(); root = pathlib.Path(sys.argv[1]).resolve(); sys.exit(0 if here.is_relative_to(root) else f"the wheel is hidden by {here}")' "$$folder"; \
	rm -rf "$(CURDIR)/$(WHEEL_OUT)"; \
	venv/bin/connectomebench quickstart --out "$(CURDIR)/$(WHEEL_OUT)"; \
	test -s "$(CURDIR)/$(WHEEL_OUT)/report/index.html"; \
	echo "wheel: installed alone and ran the quickstart"

bench: setup
	@set -e; for name in $(BENCHMARKS); do PYTHONPATH=tests/support $(BIN)/python benchmarks/$$name.py --json $(BENCH_OPTIONS); done

fuzz: setup
	@$(BIN)/python benchmarks/fuzz.py --minutes $(FUZZ_MINUTES) --out build/fuzz

clean:
	@rm -rf quickstart-out build dist site htmlcov .coverage .pytest_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
