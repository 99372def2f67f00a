# make setup | demo | test | check | bench. Each makes the environment first and is quick when it is there.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= train,quant,dev
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bounds huge bench clean
setup: $(STAMP)

# Wheels from the tested set alone; torch first, so that nothing else can choose another one.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "codedev needs Python 3.11 or newer: make PYTHON=python3.11 setup" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt hatchling editables
	case ',$(EXTRAS),' in *,train,*) $(PIP) install torch==2.13.0;; esac
	$(PIP) install --no-build-isolation -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: setup
	$(BIN)/codedev demo --out demo

# Everything; what needs the real data under .data/ says that it skips where that is absent. What fails is run once more, alone: on a busy
# machine a browser or a process can be later than a test waits. What fails twice fails.
AGAIN := $(BIN)/python -m pytest --last-failed --last-failed-no-failures none
test: check
	$(BIN)/codedev doctor --warm >/dev/null
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow || $(AGAIN) -m slow
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" || $(AGAIN) -m "not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Kernels with every index checked: numba's cache does not know of the checks, so these have one of their own, emptied first, since it
# does not notice changes in imported kernels either. The first line compiles side by side, the second runs them. 3 minutes.
bounds: export NUMBA_BOUNDSCHECK = 1
bounds: export NUMBA_CACHE_DIR = $(CURDIR)/$(VENV)/.checked
bounds: setup
	rm -rf $(NUMBA_CACHE_DIR)
	$(BIN)/codedev doctor --warm >/dev/null
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" tests/test_hostile_kernels.py tests/test_kernels_*.py
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" tests/test_tokenize_engines.py -k "brute_force or refuse"

# What takes too long for every run: 100 MB of one character through every kernel.
huge: setup
	CODEDEV_HUGE=1 $(BIN)/python -m pytest -q tests/test_hostile_kernels.py -k hundred_megabytes

bench: setup
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache
