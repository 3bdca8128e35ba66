# Any interpreter that fits: the first of these that is Python 3.11 to 3.14. `make test PYTHON=...` names another.
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo demo-3d test lint typecheck geodistk oracle clean page screen window

# A stamp is newer than the pins when the environment is up to date.
.venv/.installed: requirements.txt pyproject.toml
	@'$(PYTHON)' -c '$(FITS)' 2>/dev/null || { \
		echo "No Python 3.11 to 3.14 found ($(or $(PYTHON),no python3)); name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 2; }
	@echo "installing into .venv: 2 GB with a CPU build of PyTorch, 6 GB with CUDA; this takes a few minutes ..."
	'$(PYTHON)' -m venv .venv
	$(PIP) -r requirements.txt
	$(PIP) --no-deps -e .
	touch $@

.venv/.dev: .venv/.installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

demo: .venv/.installed
	@$(BIN)/python -m tools.demo

demo-3d: .venv/.installed
	@$(BIN)/python -m tools.demo --volume

# A process for each core; each file stays in one, because its tests share traces and networks.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/.dev
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

# The second geodesic solver, in an environment of its own: GeodisTK builds only against NumPy 1.
geodistk: .venv/.installed
	$(BIN)/python -m venv .venv-geodistk
	.venv-geodistk/bin/python -m pip install --quiet numpy==1.26.4 numba==0.61.2 setuptools==80.9.0 wheel==0.45.1
	.venv-geodistk/bin/python -m pip install --quiet --no-build-isolation --no-deps GeodisTK==0.1.7
	.venv-geodistk/bin/python -m benchmarks.geodistk

# Other programs, in environments of their own, called by their tests alone: PyNeval (GPL), the reference of SSD-F1 and
# L-F1, of whose packages only these are needed to score; MorphIO, NeuroM and navis (GPL), osmnx and cloud-volume, which
# must open our traces.
oracle: .venv/.dev
	$(BIN)/python -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check --no-deps pyneval==1.1.1
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check \
		numpy==1.26.4 rtree==1.4.1 kdtree==0.17 anytree==2.13.0 jsonschema==4.26.0
	.venv-oracle/bin/python -c "from pyneval.metric import length_metric, ssd_metric"
	$(BIN)/python -m venv .venv-oracle-neurom
	.venv-oracle-neurom/bin/python -m pip install --quiet --disable-pip-version-check morphio==3.4.0 neurom==4.0.5
	$(BIN)/python -m venv .venv-oracle-navis
	.venv-oracle-navis/bin/python -m pip install --quiet --disable-pip-version-check morphio==3.5.0 navis==1.12.0
	$(BIN)/python -m venv .venv-oracle-formats
	.venv-oracle-formats/bin/python -m pip install --quiet --disable-pip-version-check osmnx==2.1.1 cloud-volume==12.15.2
	$(BIN)/python -m pytest tests/lib/test_swc_parity.py tests/lib/parity_on_data.py tests/lib/test_swc_programs.py \
		tests/lib/test_format_programs.py

# The page of --formats html in a real browser; without one its tests are skipped by make test, but not here.
page: .venv/.dev
	@$(BIN)/python -c "import sys; from tests.lib.chromium import PROGRAM; sys.exit(PROGRAM is None)" || { \
		echo "No Chromium found: apt-get install chromium, or put chromium or google-chrome on the PATH"; exit 2; }
	$(BIN)/python -m pytest tests/lib/test_page.py tests/lib/test_page_in_browser.py

# The window of proofread.py under Xvfb, with real clicks and keys on traces made here, and the plugin of napari, in an
# environment of their own; make test skips them.
.venv-napari/.installed: requirements.txt pyproject.toml
	'$(PYTHON)' -m venv --clear .venv-napari
	.venv-napari/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt pytest==9.2.0
	.venv-napari/bin/python -m pip install --quiet --disable-pip-version-check -e '.[napari]'
	touch $@

# Debian's packages for a screen without a monitor, and the libraries that Qt needs to draw on it.
SCREEN := xvfb xdotool libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0

screen:
	@echo $(SCREEN)

window: .venv-napari/.installed
	@command -v xvfb-run >/dev/null || { echo "No Xvfb found: apt-get install $(SCREEN)"; exit 2; }
	.venv-napari/bin/npe2 validate netracer
	xvfb-run -a -s "-screen 0 1600x1000x24" .venv-napari/bin/python -m pytest tests/window tests/tools/proofreading

clean:
	rm -rf .venv .venv-geodistk .venv-oracle* .venv-napari out
