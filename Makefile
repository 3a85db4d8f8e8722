# make run    sets up .venv, converts the shipped checkpoint and chats with it
# make test   sets up .venv with the test tools, runs linters, type checks and all tests
# make test-quick   the tests that are not marked slow
# make test-page   the server's page in headless Chromium; needs npm, and chromium or `playwright install chromium`
# make test-clients   openai, anthropic, ollama, litellm, LangChain and llm, in an environment of their own, against the server
# make test-ray   the examples of Ray, on a local Ray of two workers
# make sanitize    tests of the engine under AddressSanitizer and UndefinedBehaviorSanitizer
# make sanitize-threads   tests in which threads meet, under ThreadSanitizer
# make tidy        clang-tidy over the engine (.clang-tidy); FILES='native/model/*.cpp' chooses some
# make docs        the documents and the reference of the Python API as a site, in build/site
# make vendor      fetches the page's third-party modules anew, as its package-lock.json has them
#
# A first set-up compiles llama.cpp: about 7 minutes on two cores. PYTHON=python3.12 and VENV=DIR choose others;
# CMAKE_ARGS="-DGGML_CUDA=on" builds for a GPU (README.md).

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
CHECKPOINT ?= models/trimode-tiny
MODEL := build/$(notdir $(CHECKPOINT))-Q8_0.gguf
CXX_SOURCES := $(shell find native -name '*.cpp' -o -name '*.h')
SOURCES := pyproject.toml native/CMakeLists.txt $(wildcard native/*/*.cmake) $(CXX_SOURCES)
CXX_CHECKS := $(wildcard tests/kernels/*.cpp tests/kernels/*.h)
VENDORING := pytrimode/server/page/vendoring
PYTHON_SOURCES := $(shell find pytrimode convert quantize -name '*.py')

# The tests compare with stock llama.cpp, which dies in its AMX kernels if GCC before 12.4 or 13.3 compiled them
# (native/model/model_params.h): leave them out.
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
ifneq ($(shell $${CXX:-c++} $(NO_AMX) -x c++ -fsyntax-only /dev/null 2>/dev/null && echo known),)
export CFLAGS := $(CFLAGS) $(NO_AMX)
export CXXFLAGS := $(CXXFLAGS) $(NO_AMX)
endif

# The tests take ggml's RPC backend for a device of its own (tools/second_device.py); it is one file more to compile.
export CMAKE_ARGS := -DGGML_RPC=on $(CMAKE_ARGS)

.PHONY: run test test-quick test-page test-clients test-ray sanitize sanitize-threads tidy docs vendor lint format clean prerequisites
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	@mkdir -p build
	$(BIN)/trimode-convert $(CHECKPOINT) $(MODEL) --q8_0 --force
	@if [ -t 0 ] && [ -t 1 ]; then \
	    exec $(BIN)/pytrimode chat $(MODEL); \
	else \
	    exec $(BIN)/pytrimode chat $(MODEL) -n 200 -p "Hello" -p "Sort these numbers: 74, 31, 95, 12" \
	        -p "/mode ar" -p "What is the mode self-spec?" -p "/mode diffusion" -p "How are you?" -p "/stats"; \
	fi

test: $(VENV)/.test-installed lint
	$(BIN)/pytest -n auto --dist worksteal

test-quick: $(VENV)/.test-installed
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-page: $(VENV)/.test-installed
	$(BIN)/pip install "playwright>=1.50"
	cd $(VENDORING) && npm ci --ignore-scripts && node vendor.mjs --check
	$(BIN)/pytest -n auto --dist loadfile tests/server/browser/*_in_browser.py

# Their requirements are not those of the tests: litellm and langchain-openai want an openai of their own.
test-clients: $(VENV)/.test-installed
	$(PYTHON) -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install openai anthropic ollama litellm langchain-openai llm
	$(VENV)/clients/bin/python tools/client_check.py --server $(BIN)/pytrimode

test-ray: $(VENV)/.test-installed
	$(BIN)/pip install "ray[data,serve]>=2.44"
	RAY_worker_niceness=0 $(BIN)/pytest tests/api/ray_examples.py

sanitize: $(VENV)/.test-installed
	tools/sanitize.sh address

sanitize-threads: $(VENV)/.test-installed
	tools/sanitize.sh thread

# A file takes ten seconds. The kernels are loops over registers, the bindings templates of others.
FILES ?= $(filter-out native/products/% native/attention/% native/bindings/%,$(filter %.cpp,$(CXX_SOURCES)))
tidy: $(VENV)/.test-installed
	$(BIN)/pip install "clang-tidy>=20"
	$(BIN)/clang-tidy --quiet $(FILES) -- -std=c++17 -Wconversion -Wno-sign-conversion \
	    -Inative -isystem "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/include"

# The reference is read from the sources: pytrimode itself need not be installed.
docs: | $(BIN)/pip
	eval $(BIN)/pip install $$(sed -n 's/^docs = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
	@rm -rf build/types && mkdir -p build/types/pytrimode
	@ln -s $(CURDIR)/pytrimode/* $(CURDIR)/convert $(CURDIR)/quantize build/types/pytrimode/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

vendor:
	cd $(VENDORING) && npm run vendor

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES) $(CXX_CHECKS)
	@# convert/ and quantize/ install as subpackages of pytrimode: show mypy the tree as it will be.
	@rm -rf build/types && mkdir -p build/types/pytrimode
	@ln -s $(CURDIR)/pytrimode/* $(CURDIR)/convert $(CURDIR)/quantize build/types/pytrimode/
	cd build/types && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p pytrimode
	@# -S: without site-packages' .pth files an editable installation does not stand before that tree.
	cd build/types && PYTHONPATH=.:"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    $(BIN)/python -S $(BIN)/lint-imports --no-logo --cache-dir $(CURDIR)/.import_linter_cache $(CURDIR)/pyproject.toml

format: $(VENV)/.test-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES) $(CXX_CHECKS)

clean:
	rm -rf .venv build dist .mypy_cache .import_linter_cache .pytest_cache .ruff_cache

# The tests run from the source tree, so they need an editable installation; it serves `make run` too.
$(VENV)/.test-installed: $(SOURCES) | $(BIN)/pip
	$(BIN)/pip install -e ".[test]"
	@# pip may have taken a build from its cache, made without our options.
	@ls $(VENV)/lib/python3*/site-packages/llama_cpp/lib/*ggml-rpc* >/dev/null 2>&1 || \
	    $(BIN)/pip install --force-reinstall --no-deps --no-cache-dir "$$($(BIN)/pip freeze | grep '^llama_cpp_python==')"
	@touch $(VENV)/.installed $@

$(VENV)/.installed: $(SOURCES) $(PYTHON_SOURCES) | $(BIN)/pip
	@if [ -e $(VENV)/.test-installed ]; then \
	    $(MAKE) $(VENV)/.test-installed; \
	else \
	    $(BIN)/pip install .; \
	fi
	@touch $@

$(BIN)/pip: | prerequisites
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --upgrade pip

# CMake and Ninja come from pip; what cannot is named here, before minutes have gone by.
prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found: sudo apt install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: Python 3.10 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@missing=""; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	$(PYTHON) -c 'import pathlib, sysconfig, sys; \
	    sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || missing="$$missing python3-dev"; \
	command -v "$${CXX:-c++}" >/dev/null || missing="$$missing build-essential"; \
	[ -z "$$missing" ] || { echo "error: missing:$$missing. On Debian or Ubuntu: sudo apt install$$missing" >&2; exit 1; }
