# make notebooks   set up .venv and run the five notebooks in order, offline, in place
# make check       set up .venv, lint and run the fast tests: a minute and a half
# make test        set up .venv, lint and run the tests, with doctests, notebooks, the site and the Python of its pages
# make exhaustive set up .venv, lint and run the tests that make test leaves out, as they take long
# make bundle      remake the simulated catalogue, the bundled cutouts with their truth, and the package's example
# make model       simulate cutouts of images in all conditions, and train both ready classifiers on them: three minutes
# make docs        set up .venv, build the site from docs/, the notebooks and the docstrings in build/site
# make bench       run all benchmarks, and write docs/benchmarks.md; an hour or two

PYTHON ?= python3
BIN := .venv/bin
# Progress bars wait for an hour, that none stays in the committed outputs; the number of threads changes last digits.
EXECUTE := TQDM_DELAY=3600 OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
	--ExecutePreprocessor.timeout=900
# Three processes for two cores, as many tests wait for servers and clocks; linear algebra takes no further threads.
PYTEST := MPLBACKEND=agg OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

export MPLBACKEND := module://matplotlib_inline.backend_inline

.PHONY: notebooks lint check test exhaustive bundle model docs bench clean

notebooks: .venv/notebooks.done
	$(EXECUTE) notebooks/1_*.ipynb
	$(EXECUTE) notebooks/2_*.ipynb
	$(EXECUTE) notebooks/3_*.ipynb
	$(EXECUTE) notebooks/4_*.ipynb
	$(EXECUTE) notebooks/5_*.ipynb
	$(BIN)/jupyter nbconvert --coalesce-streams notebooks/*.ipynb
	$(BIN)/python tools/shrink_figures.py notebooks/*.ipynb

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check: lint
	$(PYTEST) -m "not slow and not notebooks and not exhaustive"

test: lint
	$(PYTEST) -m "not exhaustive"

exhaustive: lint
	$(PYTEST) -m exhaustive

bundle: .venv/notebooks.done
	$(BIN)/python -c 'from ztf_sg.simulation import write_catalogue; write_catalogue("data/mock_sweep.fits.gz")'
	rm -rf cutouts_test
	$(EXECUTE) notebooks/1_*.ipynb
	$(EXECUTE) notebooks/2_*.ipynb
	$(BIN)/python tools/truth.py cutouts_test
	$(BIN)/python tools/example.py
	$(MAKE) notebooks

model: .venv/notebooks.done
	$(BIN)/python tools/train_model.py

docs: .venv/docs.done
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/doctrees . build/site

bench: .venv/test.done
	$(BIN)/python benchmarks/report.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info data/*.csv data/cache

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/notebooks.done: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[notebooks]"
	touch $@

.venv/test.done: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[notebooks,test]"
	touch $@

.venv/docs.done: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@
