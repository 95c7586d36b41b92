# Every target first makes .venv from constraints.txt where it is missing or stale; nothing else is needed
# than make and Python 3.11 to 3.14.

PYTHON ?= python3
# What to install: extras of pyproject.toml, joined by commas (EXTRAS=dev,triton,kernels). What is there stays.
EXTRAS ?= dev
# Further arguments of pytest: make test ARGS='-k store'
ARGS ?=
# Size of the notebooks: short takes a few minutes
TOUR ?= short
# Folder with local copies of MovieLens 100K (ml-100k, ml-100k-dbpedia); what needs them is skipped without
DATA ?= $(or $(PYG_KGREC_DATA),$(abspath ../shared/data))
# Threads of torch and numba. The tensors of the tests and the examples are small: more threads only wait for each
# other.
TEST_THREADS ?= 1
BENCH_THREADS ?= 2
# Processes that the tests run in, side by side (WORKERS=0: in one, for --pdb)
WORKERS ?= 2
# Trainings that make kill ends
KILLS ?= 50
# What make bench runs: BENCH=benchmarks/test_kgrec_step.py
BENCH ?= benchmarks

# Cases of make fuzz, and the seed that they are made from
CASES ?= 25000
SEED ?= 0

VENV := .venv
LOWEST := .venv-lowest
STAMP := $(VENV)/.stamp
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check install
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' constraints.txt)

# The stamp lists the extras that were installed. It is written last, so an interrupted install leaves none.
comma := ,
space := $(subst ,, )
installed := $(shell cat $(STAMP) 2>/dev/null)
extras := $(sort $(installed) $(subst $(comma), ,$(EXTRAS)) $(if $(filter docs test-docs,$(MAKECMDGOALS)),docs) \
  $(if $(filter dist,$(MAKECMDGOALS)),release))
missing := $(filter-out $(installed),$(extras))

# Where executed notebooks lie, from which the site takes their outputs
EXECUTED := out/notebooks
NOTEBOOKS := $(wildcard examples/notebooks/*.ipynb)

.PHONY: help quickstart notebooks test test-all test-lowest docs test-docs kill lint bench fuzz dist peers venv clean FORCE

help: ## Say what can be made
	@awk -F ':.* ## ' '/^[a-z-]+:.* ## / {printf "make %-12s%s\n", $$1, $$2}' Makefile

quickstart: $(STAMP) ## Train KGRec on a small knowledge graph, recommend, explain
	OMP_NUM_THREADS=$(TEST_THREADS) $(VENV)/bin/python examples/quickstart.py

notebooks: $(STAMP) ## Execute the notebooks, copies in out/notebooks (TOUR=full: at full size)
	@! grep -lE '"(output_type|execution_count)": *["0-9]' $(NOTEBOOKS) || \
	  { echo "these notebooks hold outputs: clear them before they are committed"; exit 1; }
	@rm -rf $(EXECUTED) && mkdir -p $(EXECUTED) && cp $(NOTEBOOKS) $(EXECUTED)
	PYG_KGREC_TOUR=$(TOUR) PYG_KGREC_DATA=$(DATA) OMP_NUM_THREADS=$(TEST_THREADS) $(RUN) pytest --nbmake --overwrite \
	  --nbmake-timeout=600 --durations=0 --durations-min=1 $(EXECUTED)
	@touch $(EXECUTED)/.done

# The site shows their outputs; what make notebooks executed is executed once.
$(EXECUTED)/.done: $(NOTEBOOKS)
	@$(MAKE) notebooks

test: $(STAMP) ## Run the tests that take at most a few seconds each
	OMP_NUM_THREADS=$(TEST_THREADS) $(RUN) pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

test-all: $(STAMP) ## Run all tests
	OMP_NUM_THREADS=$(TEST_THREADS) $(RUN) pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-lowest: $(LOWEST)/.stamp ## Run the tests with the lowest versions that pyproject.toml promises (Python 3.11)
	PYTHONPATH=. OMP_NUM_THREADS=$(TEST_THREADS) $(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal \
	  -m "not slow" $(ARGS)

docs: $(STAMP) $(EXECUTED)/.done ## Build the site of the documentation in out/docs, warnings are errors
	OMP_NUM_THREADS=$(TEST_THREADS) $(RUN) sphinx -W --keep-going -q -c docs -d out/doctrees . out/docs
	@echo "The site opens at out/docs/index.html"

test-docs: $(STAMP) ## Run every Python block of the README and the documentation
	MPLBACKEND=Agg OMP_NUM_THREADS=$(TEST_THREADS) $(RUN) pytest -p tests.pages README.md CONTRIBUTING.md docs $(ARGS)

kill: $(STAMP) ## Kill fifty trainings at random moments and compare what goes on (KILLS=50)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(VENV)/bin/python tests/kill/run.py --kills $(KILLS)

fuzz: $(STAMP) ## Try thousands of damaged inputs, each in its area's own process (CASES=25000 SEED=0)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.fuzz --count $(CASES) --seed $(SEED)

lint: $(STAMP) ## Check format, style, types and who imports whom
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports --no-cache

bench: $(STAMP) ## Run the benchmarks (BENCH_THREADS=2), tables and a picture in out/
	@mkdir -p out
	OMP_NUM_THREADS=$(BENCH_THREADS) $(RUN) pytest $(BENCH) --benchmark-enable --benchmark-only \
	  --benchmark-columns=min,median,mean,stddev,rounds --benchmark-json=out/bench.json $(ARGS)
	$(VENV)/bin/python benchmarks/report.py out/bench.json --picture out/bench.png

# The source distribution has to carry all that its tests need: they run from it, where it was unpacked.
dist: $(STAMP) ## Build wheel and source distribution in dist/, check both, run the tests of the second
	rm -rf dist out/sdist && mkdir -p out/sdist
	$(RUN) build
	$(RUN) twine check --strict dist/*
	@find dist -name '*.whl' -size -1024k | grep -q . || { echo "the wheel is larger than 1 MB"; exit 1; }
	tar -xzf dist/*.tar.gz -C out/sdist --strip-components=1
	cd out/sdist && PYTHONPATH=. OMP_NUM_THREADS=$(TEST_THREADS) $(abspath $(VENV))/bin/python -m pytest -n $(WORKERS) \
	  --dist worksteal -m "not slow" $(ARGS)

peers: ## Set up .venv-peers, the public implementations that benchmarks/peers compares with
	$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip -qq --disable-pip-version-check install --no-deps --index-url $(TORCH_CPU_INDEX) \
	  --retries 1 --timeout 10 $(TORCH) 2>.venv-peers/torch.log || \
	  echo "PyTorch's CPU index is out of reach: taking torch from pip's usual index"
	.venv-peers/bin/pip -q --disable-pip-version-check install -r benchmarks/peers/requirements.txt

# The lowest torch in its CPU build, alone: the usual one of that time brings 3 GB of CUDA.
$(LOWEST)/.torch: constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install -qq --no-deps --index-url $(TORCH_CPU_INDEX) \
	  --retries 1 --timeout 10 $(shell grep '^torch==' constraints-lowest.txt)
	@touch $@

$(LOWEST)/.stamp: pyproject.toml constraints-lowest.txt Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v == (3, 11) or sys.exit("the lowest versions have wheels for \
	Python 3.11, and $(PYTHON) is %d.%d: name another one, as in make PYTHON=python3.11 test-lowest" % v)'
	@$(MAKE) -s $(LOWEST)/.torch 2>/dev/null || \
	  echo "PyTorch's CPU index is out of reach: taking torch from pip's usual index (3 GB)"
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install -qq -r constraints-lowest.txt
	@touch $@

venv: $(STAMP) ## Only make .venv

clean: ## Remove .venv and all caches
	rm -rf $(VENV) $(LOWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find pyg_kgrec tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

ifneq ($(missing),)
$(STAMP): FORCE
endif
FORCE:

# 1. A .venv without a stamp is what an interrupted install left: start afresh.
# 2. Where no GPU is, torch's CPU build, alone: its dependencies come with step 3, from constraints.txt. Where
#    PyTorch's own index is out of reach, step 3 brings torch too.
# 3. The package, editable, with its extras.
# 4. The compiled kernels, which need the installed torch to build.
$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 14) or sys.exit("pyg-kgrec is set up \
	with Python 3.11 to 3.14, and $(PYTHON) is %d.%d: name another one, as in make PYTHON=python3.12 test" % v)'
	@echo "Setting up $(VENV) with: $(extras) (a few minutes the first time)"
	@if test -f $@ && $(RUN) pip --version >/dev/null 2>&1; then rm $@; else $(PYTHON) -m venv --clear $(VENV); fi
	@if test "$$(uname -s)" = Linux && ! nvidia-smi >/dev/null 2>&1; then \
	  echo "No GPU here: taking PyTorch's CPU build ($(TORCH))"; \
	  $(PIP) -qq --no-deps --index-url $(TORCH_CPU_INDEX) --retries 1 --timeout 10 $(TORCH) \
	    2>$(VENV)/torch.log || echo "PyTorch's CPU index is out of reach: taking torch from pip's usual index"; \
	fi
	@$(PIP) -qq -c constraints.txt -e '.[$(subst $(space),$(comma),$(filter-out kernels,$(extras)))]'
ifneq ($(filter kernels,$(extras)),)
	@echo "Installing torch-scatter and torch-sparse (without a wheel for this machine they are compiled: minutes)"
	@$(PIP) -qq -c constraints.txt --no-build-isolation 'pyg-kgrec[kernels]'
endif
	@echo $(extras) >$@
