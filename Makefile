# One command each. `make demo` and `make test` are all that a new user needs.
PYTHON ?= python3
VENV ?= build/venv
BIN = $(VENV)/bin
ON_IPVS = $(BIN)/python -m tests.lab.uml --timeout 1200 --

.PHONY: demo picture test check bench lab sim docs packages clean

# Debian's packages that the lab runs as a site would, and the guest kernel for machines without IPVS.
packages:
	@sh tests/lab/packages.sh

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p build/types/hawatch
	ln -sfn $(CURDIR)/hawatch/* $(CURDIR)/probes $(CURDIR)/actions build/types/hawatch/
	MYPYPATH=build/types $(BIN)/mypy -p hawatch
	$(BIN)/mkdocs build --quiet --strict --site-dir build/docs

# Tests that need IPVS (mark: kernel) run on a kernel that has it, and then those marked "beside", while the others run
# here. None is skipped.
test: packages check
	@echo "the tests that need IPVS, and some more, run beside these; what they say comes last"
	@setsid sh -c '$(ON_IPVS) $(BIN)/pytest -m kernel; there=$$?; \
	$(BIN)/pytest -m "beside and not kernel"; exit $$((there | $$?))' >build/beside.log 2>&1 & beside=$$!; \
	trap 'kill -- -$$beside' INT TERM; \
	$(BIN)/pytest -m 'not beside and not kernel'; here=$$?; \
	wait $$beside; beside=$$?; \
	cat build/beside.log; \
	exit $$((here | beside))

demo: packages $(VENV)/.ready
	$(ON_IPVS) $(BIN)/python -m tests.lab.demo
	$(ON_IPVS) $(BIN)/python -m tests.lab.pair.demo

# The pictures in README and docs: what the demo prints now, and the page.
picture: packages $(VENV)/.ready
	$(BIN)/python -m tests.lab.picture docs/demo.svg -- $(MAKE) --silent demo
	$(BIN)/python -m tests.lab.page_picture docs

bench: packages $(VENV)/.ready
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.metrics
	$(BIN)/python -m tests.bench.failover --runs 5
	$(BIN)/python -m tests.lab.pair.many
	$(BIN)/python -m tests.bench.page
	$(BIN)/python -m tests.bench.console
	$(BIN)/python -m tests.bench.flood
	$(BIN)/python -m tests.bench.busy
	$(BIN)/python -m tests.bench.idle
	$(ON_IPVS) $(BIN)/python -m tests.bench.ipvs
	$(BIN)/python -m tests.bench.memory
	$(ON_IPVS) $(BIN)/python -m tests.bench.verdict
	$(ON_IPVS) $(BIN)/python -m tests.bench.reaction
	$(ON_IPVS) $(BIN)/python -m tests.bench.start

# Each row of the failure table, RUNS times, with profiles fast and default, its bound beside each figure.
# LAB chooses: make lab RUNS=5 LAB='--row switchover --agent "hawatch fast"'. JOBS pairs run beside each other.
RUNS ?= 3
JOBS ?= 2
LAB ?=
lab: packages $(VENV)/.ready
	$(BIN)/python -m tests.bench.failover --all --runs $(RUNS) --jobs $(JOBS) $(LAB)
	$(ON_IPVS) $(BIN)/python -m tests.bench.failover --all --place kernel --agent "hawatch default" --runs $(RUNS) $(LAB)

# Sites under seeded faults, for so many simulated hours.
HOURS ?= 1
sim: $(VENV)/.ready
	$(BIN)/python -m tests.sim --hours $(HOURS)

docs: $(VENV)/.ready
	$(BIN)/mkdocs build --quiet --strict --site-dir build/docs

clean:
	rm -rf build
