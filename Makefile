# `make demo` and `make test` set up their own environment from the lock file. `make test-engines`
# needs Java, Maven and Go as well: it tests on Flink, Prism and an object store, which
# `make engines` fetches.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ENGINES := $(VENV)/.engines

.PHONY: demo demo-model test engines test-engines test-chaos test-sanitized lint format lock samples \
    reference clean

demo: $(STAMP)
	$(BIN)/cidermill curate --input 'samples/*.warc.gz' --output out/demo
	$(BIN)/cidermill tokenizer train out/demo --vocab-size 2048
	$(BIN)/cidermill pack out/demo --sequence-length 1024
	@echo "try      $(BIN)/cidermill why http://village.example.org/profanity --output out/demo"

out/demo/shards/1024/index.json:
	$(MAKE) demo

demo-model: $(STAMP) out/demo/shards/1024/index.json
	$(BIN)/cidermill train out/demo --shards out/demo/shards/1024 --preset 1m --tokens 200k --restart
	$(BIN)/cidermill evaluate out/demo/models/1m --prompt "The old orchard" --prompt-tokens 40
	$(BIN)/cidermill quantize out/demo/models/1m --shards out/demo/shards/1024 \
	    --tune-tokens 50k --recover-tokens 50k --to out/demo/model.cider
	$(BIN)/cidermill generate --model out/demo/model.cider --prompt "The old orchard" --tokens 40

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

engines: $(STAMP)
	$(BIN)/python -m engines fetch

test-engines: engines $(ENGINES)
	$(BIN)/pytest --engines -rs tests/engines --ignore tests/engines/test_chaos.py

# Kills at random moments. What they hit depends on the clock, so they are no part of the gate.
test-chaos: engines $(ENGINES)
	CIDERMILL_KILLS=10 $(BIN)/pytest --engines -rs tests/engines/test_chaos.py

# The runtime's tests with kernels in which the compiler checks every address and every sum. Leaks
# are not looked for: Python's own would be found. The C++ library goes along so that exceptions of
# other libraries find their way.
test-sanitized: $(STAMP)
	CIDERMILL_SANITIZE=1 $(BIN)/python -c 'from runtime.build import library; library()'
	CIDERMILL_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	    $(BIN)/pytest -n0 -p no:faulthandler tests/test_runtime_kernels.py tests/test_runtime_model.py \
	    tests/test_adapters.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# What tests on engines need besides: the client of S3.
$(ENGINES): $(STAMP) requirements-engines.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-engines.lock
	touch $@

# Resolve the dependencies anew; commit the result.
lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --extra test --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --constraint requirements.lock --extra test --extra aws \
	    --output-file requirements-engines.lock pyproject.toml

samples: $(STAMP)
	$(BIN)/python samples/make_samples.py

reference: $(STAMP)
	$(BIN)/cidermill recipes --reference > docs/reference.md

clean:
	rm -rf $(VENV) out
