# Everything a person types here. `make` alone lists it.
# The environment in .venv is made on first need; nothing is installed outside this directory.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A PYTHONPATH from outside would put other code before ours. Without byte code on disk each agent
# compiles all of itself when it starts.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
# Ansible refuses locales that aren't UTF-8, and writes below $HOME unless told otherwise.
export LC_ALL := C.UTF-8
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_LOCAL_TEMP := $(CURDIR)/.ansible/tmp
export ANSIBLE_REMOTE_TEMP := $(CURDIR)/.ansible/tmp
# Tools named below, and those that they start, are the environment's own.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
PYTHON_FILES := node_agent tests tools benchmarks collections

.PHONY: help venv demo demo-down hosts hosts-down acceptance test lint types \
	unit fuzz sanity bench bench-deploy docs constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(DEV) ## make .venv with everything that demo, tests and development need

.venv/.installed-%: pyproject.toml constraints.txt tools/make_venv.sh
	@sh tools/make_venv.sh $*

demo: $(DEMO) ## start a CA, an RA and a VA on this machine, enrol, check, revoke, show it all
	@python tools/demo.py up

demo-down: $(DEMO) ## stop the demo and remove every file it made
	@python tools/demo.py down

# Before anything is made, and with the machine's own Python: .venv may be among what isn't there.
.PHONY: hosts-needs
hosts-needs:
	@python3 -m tools.test_hosts.requirements

hosts: hosts-needs $(DEV) ## boot the hosts of INVENTORY (inventories/three_tier) in this machine, as root
	@python -m tools.test_hosts up -i $(or $(INVENTORY),inventories/three_tier)

hosts-down: $(DEV) ## remove those hosts, their networks and their files
	@python -m tools.test_hosts down

# In this order: partition and bad_input take the hosts as the one before them left them. What begins
# another inventory, or an empty one, resets its hosts.
SCENARIOS ?= interrupted_deploy partition bad_input three_tier va_chaining high_availability ra_chaining multi_tenant

acceptance: hosts-needs $(DEV) ## molecule scenarios on such hosts, all or SCENARIOS="partition three_tier"
	@rm -rf .ansible/tmp/molecule.*
	@env -u ANSIBLE_REMOTE_TEMP python -m tools.scenario_durations \
	    molecule test $(SCENARIOS:%=-s %) --report --command-borders

test: $(DEV) ## everything that must hold: lint, types, sanity, the whole suite
	@$(MAKE) --jobs=$$(nproc) --output-sync=target sanity lint types
	pytest -n auto --dist loadfile --no-loadscope-reorder || { \
	    echo "== what failed beside other tests, once more and alone"; \
	    pytest --last-failed --last-failed-no-failures none; }

lint: lint-ansible $(DEV) ## ruff, yamllint, ansible-lint
	ruff check $(PYTHON_FILES)
	ruff format --check $(PYTHON_FILES)
	yamllint --strict .

.PHONY: lint-ansible
lint-ansible: $(DEV)
	ansible-lint --offline

types: $(DEV) ## mypy, strict: the agent, what tests and benchmarks stand on, the collection
	mypy
	mypy --explicit-package-bases -p tests.support -p tests.acceptance -p tools -p benchmarks
	MYPYPATH=collections mypy --explicit-package-bases -p ansible_collections.peersys.pki.plugins

unit: $(DEV) ## only the quick tests of single parts
	pytest tests/unit tests/property tests/cases tests/test_repository.py

fuzz: $(DEV) ## fuzz each parser for a minute (SECONDS=600 for longer)
	@for target in tests/fuzz/fuzz_*.py; do \
	    echo "== $$target"; python "$$target" -max_total_time=$(or $(SECONDS),60) || exit 1; done

# One after the other, or with --jobs at once: none writes where another reads. The longest first.
SANITY := $(addprefix sanity-,sanity integration-1/2 integration-2/2 units galaxy)

sanity: $(SANITY) ## ansible-test sanity, units and integration of the collection, and its artifact

.PHONY: $(SANITY)
$(SANITY): sanity-%: $(DEV)
	python tools/collection_tests.py $(subst -, ,$*)

bench: .venv/.installed-bench ## measure beside rivals; writes docs/performance.md
	python -m benchmarks --write

bench-deploy: hosts-needs $(DEV) ## time deployments to 4, 8 and 16 such hosts; writes docs/performance.md
	@python -m benchmarks.bench_deploy --write

docs: $(DEV) ## make the generated pages below docs/reference again
	python tools/draw_cli_reference.py
	python tools/draw_states.py

# In an environment of its own: nothing that was installed by hand gets in.
constraints: ## pin the newest fitting versions of all that is needed, in constraints.txt
	rm -rf build/newest && python3 -m venv build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check ".[controller,dev,bench]"
	{ sed -n '/^#/p' constraints.txt; \
	  build/newest/bin/python -m pip freeze --disable-pip-version-check --exclude peersys; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## remove the environment and every cache (the demo must be down)
	@test ! -e .local || { echo "The demo is there still: run 'make demo-down' first." >&2; exit 1; }
	rm -rf .venv .ansible .wheelhouse .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
