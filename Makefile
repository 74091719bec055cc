# SPDX-License-Identifier: MIT
# Each target is a line or two; what needs more is a script in tools/.
# ARGS="…" reaches the program behind a target: make test ARGS="-k codec -x"

PYTHON := .venv/bin/python
ARGS ?=
ROUNDS ?= 30

.DEFAULT_GOAL := help
.PHONY: help venv venv-to-run engine images emulators client demo install uninstall test engines engine-settings pythons faults cores fuzz check screenshots bench clean engine-down

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-15s %s\n", $$1, $$2 }'

venv: ## make .venv with the project and its tools (again when setup.cfg or pyproject.toml changed)
	@tools/venv

venv-to-run:
	@tools/venv cli

engine: ## find a container engine or start a private one; print its DOCKER_HOST
	@tools/engine up

images: ## build the emulator images (ARGS="--base IMAGE")
	@tools/images $(ARGS)

emulators: ## copy stage/operatord_stage to the emulators that need it, and a module to the protocol
	@tools/emulators

client: venv ## generate the blocking client from the client for asyncio
	@$(PYTHON) tools/client

# A demo needs .venv and no more, and of that what a demo needs: no linters and no tests. It starts no engine, but
# takes one that answers, else local processes.
demo: venv-to-run ## watch a session run, on an engine that answers or as local processes
	@if host=$$(tools/engine status 2>/dev/null); then export "$$host"; fi; exec .venv/bin/operatord demo $(ARGS)

install: ## install the daemon as a systemd service (DESTDIR=, PREFIX=/usr/local, SERVICE_PYTHON=/usr/bin/python3)
	@packaging/install

uninstall: ## remove the service; settings, state and user stay
	@packaging/install uninstall

test: ## run the tests, with containers if there is an engine (ARGS="-k name")
	@tools/test $(ARGS)

engines: ## test on other releases' engines, and print a table (ARGS="docker-28 podman")
	@tools/engines $(ARGS)

engine-settings: ## run sessions on a Docker with unusual settings, one after the other (ARGS=docker-26)
	@tools/engine-settings $(ARGS)

pythons: ## run the tests that need no engine with other Pythons (ARGS=3.14)
	@tools/pythons $(ARGS)

# What keeps all cores busy comes last and alone: beside it, others would measure that they had no turn. 5: none is chosen.
faults: ## kill the daemon at every point, ROUNDS=30 times at random, and damage the engine
	@code=0; for which in "not alone" alone; do \
		FAULTS=all ROUNDS=$(ROUNDS) tools/test tests/faults "-m$$which" $(ARGS) || [ $$? -eq 5 ] || code=1; \
	done; exit $$code

cores: ## measure reserved cores under load, on cgroup v1 and v2 (ARGS="here docker-28")
	@tools/cores $(ARGS)

fuzz: venv ## send the daemon ROUNDS=10000000 lines that are nearly requests (ARGS="--seconds 600")
	@tools/fuzz $(if $(filter file,$(origin ROUNDS)),,--rounds $(ROUNDS)) $(ARGS)

check: venv ## lint, format check and strict types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy --strict
	@$(PYTHON) -m mypy --strict --explicit-package-bases $(wildcard emulators/*/*.py) tools/emulators
	@$(PYTHON) -m mypy --strict --explicit-package-bases $(wildcard adapters/*/*.py)

screenshots: venv ## draw the README's pictures of the page anew
	@tools/page/browser fonts-inter fonts-jetbrains-mono pngquant
	@$(PYTHON) tools/page/screenshots

bench: ## measure, and compare with docker-compose and socat (ARGS="--only start")
	@tools/images
	@tools/apt docker-compose socat || true
	@host=$$(tools/engine up) && export "$$host" && exec $(PYTHON) tests/benchmarks/run.py $(ARGS)

clean: ## delete caches and build products (.venv, images and other releases' roots stay)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -path ./.engine -prune -o -path ./.roots -prune -o \
	    \( -name __pycache__ -o -name '*.egg-info' \) -type d -print0 | xargs -0r rm -rf

engine-down: ## stop the private engines (ARGS=--purge: and delete their images and roots)
	@tools/engine down $(ARGS)
	@tools/roots down $(ARGS)
