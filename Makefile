# GNU make 3.81 (macOS) or later, and any POSIX shell.
# PYTHON names the Python that .venv is made with, ARGS goes to pytest and to the benchmark.

PYTHON ?= python3
COHORTSYNC_HOME ?= cohortsync-demo
BIN = .venv/bin

.PHONY: help .venv demo app lab test sweep bench browser check lock clean

help:
	@echo 'make demo     set up .venv and run the main job on sample data, from a local Mixpanel to a local Mailchimp'
	@echo 'make app      open the app on the workspace that the demo left'
	@echo 'make lab      open JupyterLab on a copy of the notebooks, in lab/'
	@echo 'make test     run all tests; one of them with: make test ARGS=tests/test_mtu.py'
	@echo 'make sweep    all faults and kills, of loads, pulls and syncs, by seed, and what takes long; takes about half an hour on two cores'
	@echo 'make bench    measure against DuckDB alone, polars, pandas and plain Python; a quick look:'
	@echo '              make bench ARGS="--events 1000000 --verbs 500000"'
	@echo 'make browser  install the browser that the browser test needs (Debian and Ubuntu)'
	@echo 'make check    lint, types and tests'
	@echo 'make lock     renew the exact versions in constraints.txt'
	@echo 'make clean    remove what the others made: .venv, the demo workspace, caches'

.venv: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'cohortsync needs Python 3.11 or later. If you have one under another name: make PYTHON=python3.12 ...' >&2; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear .venv || { \
	  echo 'Python could not make .venv. On Debian and Ubuntu its venv is a package of its own: python3-venv' >&2; \
	  exit 1; }
	@echo 'Setting up .venv; this takes a minute or two.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

.venv/.lab: .venv/.ready
	@echo 'Adding JupyterLab to .venv.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lab]' -c constraints.txt
	@touch $@

.venv/.bench: .venv/.ready
	@echo 'Adding what the benchmark measures against to .venv.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' -c constraints.txt
	@touch $@

demo: .venv/.ready
	@$(BIN)/cohortsync --home '$(COHORTSYNC_HOME)' demo
	@echo
	@echo 'From this folder: make app opens the app, make lab the notebooks.'

app: .venv/.ready
	@$(BIN)/cohortsync --home '$(COHORTSYNC_HOME)' app

lab: .venv/.lab
	@test -d lab || $(BIN)/cohortsync notebooks --copy lab
	@case '$(COHORTSYNC_HOME)' in /*) home='$(COHORTSYNC_HOME)';; *) home="$$PWD/$(COHORTSYNC_HOME)";; esac; \
	  $(BIN)/cohortsync --home "$$home" sandbox & local=$$!; trap 'kill $$local 2>/dev/null' EXIT; \
	  cd lab && COHORTSYNC_HOME="$$home" ../$(BIN)/jupyter lab $(ARGS)

test: .venv/.ready
	@$(BIN)/python -m pytest $(ARGS)

bench: .venv/.bench
	@PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)
	@PYTHONPATH=tests $(BIN)/python -m bench.syncing

browser:
	@if [ -n "$$COHORTSYNC_CHROMIUM" ]; then \
	  test -x "$$COHORTSYNC_CHROMIUM" || { echo "COHORTSYNC_CHROMIUM=$$COHORTSYNC_CHROMIUM is not there." >&2; exit 1; }; \
	  echo "The browser test uses $$COHORTSYNC_CHROMIUM."; \
	elif command -v chromium || command -v chromium-browser || command -v google-chrome; then \
	  echo 'is there already.'; \
	elif ! command -v apt-get >/dev/null; then \
	  echo 'This installs Debian packages. Here, install Chromium or Google Chrome yourself (macOS: from its web page,' >&2; \
	  echo 'into Applications); if the browser test does not find it, name its program in COHORTSYNC_CHROMIUM.' >&2; \
	  exit 1; \
	elif [ "$$(id -u)" = 0 ]; then \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; \
	elif command -v sudo >/dev/null; then \
	  sudo apt-get update && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; \
	else \
	  echo 'Installing Chromium needs root: run as root, or ask someone who may: apt-get install chromium' >&2; \
	  exit 1; \
	fi

# Four at a time on two cores: much of a sweep is waiting for time-outs.
sweep: .venv/.ready
	@$(BIN)/python -m pytest -m 'sweep or sample or law' --hypothesis-profile sweep -n 4 --dist worksteal -v $(ARGS)

check: .venv/.ready
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(ARGS)

lock:
	@rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,lab,bench]'
	@{ sed -n '/^#/p' constraints.txt; \
	   build/lock/bin/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$'; \
	 } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/lock

clean:
	@rm -rf .venv cohortsync-demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
