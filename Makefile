PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint geodistk clean

# The stamp is newer than the pins when the environment is up to date.
.venv/.installed: requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 wanted, this is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

demo: .venv/.installed
	@$(BIN)/python -m tools.demo

test: .venv/.installed
	$(BIN)/python -m pytest

lint: .venv/.installed
	$(BIN)/ruff check .

# The second geodesic solver, in an environment of its own: GeodisTK builds only against NumPy 1.
geodistk: .venv/.installed
	$(BIN)/python -m venv .venv-geodistk
	.venv-geodistk/bin/python -m pip install --quiet numpy==1.26.4 numba==0.61.2 setuptools==80.9.0 wheel==0.45.1
	.venv-geodistk/bin/python -m pip install --quiet --no-build-isolation --no-deps GeodisTK==0.1.7
	.venv-geodistk/bin/python -m benchmarks.geodistk

clean:
	rm -rf .venv .venv-geodistk out
