# make html    builds the book into _build/html; everything it needs is set up on the way.
# make help    lists the other targets.
# make html BUILD=/path VENV=/path    writes there only: for a checkout that is read-only.

BUILD  := _build
VENV   := .venv
READY  := $(VENV)/.complete
PYTHON := $(VENV)/bin/python
SPHINX := -c . -n -W --keep-going

# Looked for in this order; a name that exists but does not run (an empty pyenv shim) is passed over.
PYTHONS := python3.13 python3.12 python3.11 python3 python

export LRTHEORY_BUILD := $(abspath $(BUILD))
export RUFF_CACHE_DIR := $(LRTHEORY_BUILD)/ruff
export MYPY_CACHE_DIR := $(LRTHEORY_BUILD)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(LRTHEORY_BUILD)/hypothesis
export PYTHONUTF8 := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help html execute test check bench networks error-rates properties mutation live lock audit clean rebuild-environment

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

html: execute  ## Run every notebook and build the book into _build/html
	@rm -rf $(BUILD)/html
	$(PYTHON) -m sphinx -q -E $(SPHINX) -d $(BUILD)/doctrees -b html book $(BUILD)/html
	@echo "The book is in $(BUILD)/html/index.html"

execute: $(READY)
	$(PYTHON) book/_ext/execution.py

test: $(READY)  ## Lint, type-check, run the tests, the doctests and the book's own assertions
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest --numprocesses auto -o cache_dir=$(LRTHEORY_BUILD)/pytest
	$(PYTHON) book/_ext/execution.py

check: $(READY)  ## Check every claim of the ledger
	$(PYTHON) -m lrtheory check

bench: $(READY)  ## Time the package and the book, beside what one would pick instead
	[ -x $(BUILD)/bench/bin/python ] || $(PYTHON) -m venv $(BUILD)/bench
	$(BUILD)/bench/bin/python -m pip install --quiet --require-hashes -r requirements.txt
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['bench'], sep='\n')" > $(BUILD)/bench/extra.txt
	$(BUILD)/bench/bin/python -m pip install --quiet -r $(BUILD)/bench/extra.txt
	$(BUILD)/bench/bin/python tests/bench.py

networks: $(READY)  ## Train the networks of the chapter "Real networks" again (about 15 minutes)
	$(PYTHON) book/networks.py

error-rates: $(READY)  ## Measure the ledger's own error rates over 200 seeds (half an hour; goes on where it stopped)
	OMP_NUM_THREADS=1 $(PYTHON) tests/error_rates.py --seeds 200 --workers 2

properties: $(READY)  ## Try every claim at two hundred random settings, others each time (ten minutes)
	HYPOTHESIS_PROFILE=thorough OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses auto -o cache_dir=$(LRTHEORY_BUILD)/pytest tests/test_properties.py

mutation: $(READY)  ## Change the four core modules at random and see a test fail (half an hour; goes on where it stopped)
	$(PYTHON) -m pip install --quiet --upgrade --target $(BUILD)/mutation cosmic-ray==8.7.0
	PYTHONPATH=$(BUILD)/mutation nice $(PYTHON) tests/mutate.py

live: $(READY)  ## Serve the book and rebuild it on every save
	$(PYTHON) -m sphinx_autobuild -c . -d $(BUILD)/live-doctrees --watch lrtheory --re-ignore '__pycache__' \
	    --pre-build "$(PYTHON) book/_ext/execution.py" --port 0 --open-browser book $(BUILD)/live

lock: $(READY)  ## Regenerate requirements.txt from pyproject.toml (newest versions: make lock UPGRADE=--upgrade)
	$(PYTHON) -m venv $(BUILD)/lock
	$(BUILD)/lock/bin/python -m pip install --quiet uv
	$(BUILD)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest $(UPGRADE) \
	    --generate-hashes --no-header --no-annotate --extra book --extra test pyproject.toml -o requirements.txt

audit: $(READY)  ## Look the locked versions up among the known vulnerabilities (needs the network; unknown is a failure)
	$(PYTHON) -m venv $(BUILD)/audit
	$(BUILD)/audit/bin/python -m pip install --quiet pip-audit
	$(BUILD)/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.txt

clean:  ## Remove everything that was built, the environment too
	rm -rf $(BUILD) $(VENV) .python
	find lrtheory book tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The mark is written last: a set-up that was interrupted starts over.  The .pth file puts this folder on the
# environment's path, relative to it, so that the checkout may move.
$(READY): requirements.txt
	@rm -rf $(VENV); \
	runs() { "$$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; }; \
	sets_up() { "$$1" -c "import ensurepip, venv" >/dev/null 2>&1; }; \
	sudo=$$([ "$$(id -u)" = 0 ] || echo "sudo "); bare=; python=; \
	for name in $(PYTHONS); do \
	    if runs $$name; then \
	        if sets_up $$name; then python=$$name; break; fi; \
	        bare=$${bare:-$$name}; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    version=$$([ -z "$$bare" ] || "$$bare" -c "import sys; print('%d.%d' % sys.version_info[:2])"); \
	    if [ -z "$$bare" ] && command -v python3 >/dev/null && python3 -c "" 2>/dev/null; then \
	        mend="python3 -m pip install uv && python3 -m uv venv --python 3.13 --seed .python && make html PYTHONS=.python/bin/python"; \
	    elif command -v apt-get >/dev/null; then \
	        mend="$${sudo}apt-get update && $${sudo}apt-get install -y python$${version:-3}-venv"; \
	    elif command -v dnf >/dev/null; then mend="$${sudo}dnf install -y python3.12"; \
	    elif command -v brew >/dev/null; then mend="brew install python@3.13"; \
	    else mend="uv venv --python 3.13 --seed .python && make html PYTHONS=.python/bin/python"; fi; \
	    if [ -n "$$bare" ]; then echo "Python $$version lacks its venv module; install it: $$mend" >&2; \
	    else echo "No Python 3.11 or newer was found; install one: $$mend" >&2; fi; \
	    exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version) (about a minute)"; \
	"$$python" -m venv $(VENV) \
	&& $(PYTHON) -m pip install --quiet --require-hashes -r requirements.txt \
	&& $(PYTHON) -c "import os, pathlib, sysconfig; packages = pathlib.Path(sysconfig.get_path('purelib')); \
	(packages / 'lrtheory.pth').write_text(os.path.relpath(os.getcwd(), packages) + '\n')" \
	&& touch $@

# An environment whose Python has gone (an upgrade, a copied folder) is made anew.
ifeq ($(wildcard $(PYTHON)),)
$(READY): rebuild-environment
endif
