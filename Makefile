# Everything happens in .venv; the first target that needs it makes it.
PYTHON ?= python3
# The torch to build against. Where the package index has builds for several kinds of machine, choose
# one by pip's own settings, for example PIP_INDEX_URL or PIP_EXTRA_INDEX_URL.
TORCH ?= 2.13.0
VENV := .venv
BIN := $(VENV)/bin
RECTOOLS := .venv-rectools
SOURCES := pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f 2>/dev/null)

.PHONY: help demo test test-slow lint format bench clean .venv-rectools

help:
	@echo "make demo       MovieLens-100K from the log to an explained recommendation"
	@echo "make test       the tests; make test-slow the long ones"
	@echo "make lint       formatting, lint and types; make format mends the formatting"
	@echo "make bench      speed ratios against other libraries on this machine"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "mfgan: Python must be 3.10 or newer, got $$($(PYTHON) --version); set PYTHON=" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "mfgan: python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.torch-$(TORCH): | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==$(TORCH)"
	@rm -f $(VENV)/.torch-* $(VENV)/.installed*
	@touch $@

$(VENV)/.installed: $(VENV)/.torch-$(TORCH) $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[report,simulate]" "torch==$(TORCH)"
	@touch $@

# The tests run the GPU's kernels on an emulator, which only they need.
test test-slow: export MFGAN_EMULATOR := ON

$(VENV)/.installed-test: $(VENV)/.torch-$(TORCH) $(SOURCES)
	MFGAN_EMULATOR=ON $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,lint]" "torch==$(TORCH)"
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	$(BIN)/mfgan demo --to demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cuh' 'csrc/*.cpp' 'csrc/*.cu')

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cuh' 'csrc/*.cpp' 'csrc/*.cu')

# RecTools wants an older NumPy than mfgan does, so it has an environment of its own.
$(RECTOOLS): $(RECTOOLS)/.installed-$(TORCH)

$(RECTOOLS)/.installed-$(TORCH): bench/rectools.txt
	@rm -rf $(RECTOOLS)
	@$(PYTHON) -m venv $(RECTOOLS)
	$(RECTOOLS)/bin/python -m pip install --quiet --disable-pip-version-check "torch==$(TORCH)" -r bench/rectools.txt
	@touch $@

bench: $(VENV)/.installed-test
	@[ -n "$$MFGAN_RECTOOLS_PYTHON" ] || $(MAKE) --no-print-directory $(RECTOOLS) || \
	  { rm -rf $(RECTOOLS); echo "mfgan: RecTools cannot be installed here, its rows are skipped" >&2; }
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) $(RECTOOLS) build *.egg-info mfgan/*.so demo
