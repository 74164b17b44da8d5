# Every target is explained by `make help`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CC ?= gcc
CORE := $(sort $(wildcard csrc/core/*.c))
HEADERS := $(wildcard csrc/*/*.h) tests/c/check.h
SOURCES := $(CORE) $(sort $(wildcard csrc/binding/*.c)) $(HEADERS)
CTESTS := $(patsubst tests/c/%.c,%,$(sort $(wildcard tests/c/test_*.c)))
DEBUG_PYTHON ?= python3-dbg
FAULTS_SHARED := $(addprefix tests/faults/,calls.c disk.c processes.c work.c)
CFLAGS_C := -std=c11 -D_GNU_SOURCE -g -O1 -pthread -Icsrc/core -Wall -Wextra -Wshadow \
	-Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Werror
LIBS := -lsqlite3 -lm
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help deps deps-ci build demo bench docs consumers test pythons ctest ctest-clang checks faults \
	faults-long soak leaks lint format asan tsan valgrind sdist-check clean distclean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

deps: ## install what building needs, where it is missing (Debian)
	@scripts/deps build $(PYTHON) $(SUDO)

deps-ci: deps ## the checkers as well: clang, clang-format, valgrind
	@scripts/deps checks $(PYTHON) $(SUDO)

$(VENV)/.built: $(SOURCES) setup.py pyproject.toml | deps
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	DATAMANAGER_WERROR=1 $(VENV)/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

build: $(VENV)/.built ## build into .venv

demo: build ## replay a day of requests (TRACE=file.csv: a real trace) and print what they cost
	$(PY) -m datamanager demo $(if $(TRACE),--trace $(TRACE))

bench: deps ## measure against the peers; prints a table, writes build/bench/results.json
	@[ -x build/bench/venv/bin/python ] || $(PYTHON) -m venv build/bench/venv
	@build/bench/venv/bin/pip install -q --disable-pip-version-check '.[bench]'
	build/bench/venv/bin/python bench/run.py $(ARGS)

docs: build ## the site, in build/site; a dead link is an error
	$(PY) scripts/pages.py build/docs
	$(PY) -m sphinx -q -n -W --keep-going -E -d build/docs.cache build/docs build/site

consumers: build ## pandas, polars, pyarrow, DuckDB, NumPy and plotly at their lowest versions
	@scripts/consumers $(PY)

test: build ctest ## the tests; builds with warnings as errors
	@scripts/suite $(PY)

pythons: ## the quick tests on every other Python from 3.11 on that is installed
	@scripts/pythons $(PY)

ctest: | deps ## the core without Python
	@scripts/ctest $(CC) plain "$(CFLAGS_C)" "$(LIBS)" $(CTESTS)

ctest-clang: | deps-ci ## the same, compiled by clang; not every allocation fails
	@DM_TEST_STRIDE=7 $(MAKE) --no-print-directory CC=clang ctest

checks: build | deps-ci ## what needs one processor, as many at once as there are
	@$(MAKE) --no-print-directory -j$(shell nproc) -Otarget valgrind docs lint sdist-check consumers ctest-clang tsan

faults: build | deps-ci ## power cuts, failing calls, kills and the like, each with a control that must be caught
	@$(PY) -c 'import atheris' 2>/dev/null || $(VENV)/bin/pip install -q --disable-pip-version-check 'atheris>=3'
	@scripts/faults $(PY) $(DEBUG_PYTHON) $(CC) "$(CFLAGS_C)" "$(LIBS)" "$(FAULTS_SHARED)"

faults-long: export DM_CUTS := 1000000
faults-long: export DM_PAIRS := 100000
faults-long: export DM_TEST_ALL := 1
faults-long: export DM_KILLS := 20000
faults-long: export DM_FILES := 1000
faults-long: export DM_FORKS := 1000
faults-long: export DM_SCHEDULES := 500
faults-long: export DM_SECONDS := 300
faults-long: export DM_STRESS_SECONDS := 600
faults-long: export DM_RACES_SECONDS := 600
faults-long: export DM_FUZZ_SECONDS := 3600
faults-long: export DM_MUTATIONS := 20000
faults-long: faults ## the same for a night

soak: build ## four processes, eight threads each, every operation, for DM_SECONDS (30; 1800 to be sure)
	$(PY) tests/faults/soak.py

asan: build ## all but the command line under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/ctest gcc asan "$(CFLAGS_C) -fsanitize=address,undefined -fno-sanitize-recover=all" "$(LIBS)" $(CTESTS)
	@scripts/asan $(PY)

tsan: | deps ## the C tests under ThreadSanitizer
	@TSAN_OPTIONS=halt_on_error=1 scripts/ctest $(CC) tsan "$(CFLAGS_C) -fsanitize=thread" "$(LIBS)" \
		$(filter-out test_oom,$(CTESTS))

valgrind: | deps-ci ## the C tests under valgrind
	@DM_TEST_STRIDE=29 RUNNER="valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --child-silent-after-fork=yes" \
		scripts/ctest $(CC) plain "$(CFLAGS_C)" "$(LIBS)" $(CTESTS)

leaks: build ## 100,000 rounds of every call, the slow ones too: an hour and more
	DM_TEST_SLOW=1 $(PY) -m pytest -n auto tests/test_leaks.py

lint: build | deps-ci ## format, lint, types, stubs
	$(VENV)/bin/ruff format --check datamanager tests bench examples scripts setup.py
	$(VENV)/bin/ruff check datamanager tests bench examples scripts setup.py
	$(VENV)/bin/mypy
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml datamanager._core
	clang-format --dry-run -Werror csrc/*/*.[ch] tests/c/*.[ch] tests/faults/*.[ch] bench/c/*.c

format: build | deps-ci ## format all code
	$(VENV)/bin/ruff format datamanager tests bench examples scripts setup.py
	$(VENV)/bin/ruff check --fix datamanager tests bench examples scripts setup.py
	clang-format -i csrc/*/*.[ch] tests/c/*.[ch] tests/faults/*.[ch] bench/c/*.c

sdist-check: build ## the sdist installs in a clean venv and works; make asan runs its tests
	@scripts/sdist-check $(PYTHON) $(abspath $(PY))

clean: ## remove what was built, but not .venv
	rm -rf build dist *.egg-info datamanager/*.so $(VENV)/.built
	find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +

distclean: clean ## .venv and the caches of the tools as well
	rm -rf $(VENV) .hypothesis .mypy_cache .ruff_cache
