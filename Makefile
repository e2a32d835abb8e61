# make demo | make test | make lab | make bench | make docs | make stress | make train-shipped DATA=FOLDER
# VENV=FOLDER     an environment of your own, used as it is; without it, .venv is made
# TORCH='torch --index-url …'     another build of PyTorch, for .venv
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
# the name of this checkout, for environments that it made
MINE   := $(subst /,-,$(CURDIR))
RUN    ?= runs/demo
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test stress lab bench docs train-shipped env notebooks readme clean

demo: env
	$(BIN)/python -m d2it_nb.demo --run $(RUN)

test: env
	$(BIN)/python tools/check.py

# hours: the long versions of what `make test` does in short
stress: env
	STRESS=1 $(BIN)/python -m pytest -q -m stress tests
	$(BIN)/python tools/fuzz.py all --browser
	$(BIN)/python tools/faults.py all
	$(BIN)/python tools/lines.py
	$(BIN)/python tools/mutants.py

# the networks that ship: all three stages from a folder whose sub-folders are the classes; stopped and started again, it goes on
PRESET ?= night
NPROC  ?= 2
train-shipped: env
	$(BIN)/python -m d2it_nb.demo --run runs/shipped-$(PRESET) --preset $(PRESET) --nproc $(NPROC) --data $(or $(DATA),$(error give the photographs: make train-shipped DATA=FOLDER)) --ship data/shipped

bench: env
	$(BIN)/python -m d2it_nb.benchmark

# the notebooks and a page for each module as a static site: _docs/index.html
docs: env
	$(BIN)/python tools/docs/build.py

lab: env
	$(BIN)/jupyter lab nbs/index.ipynb

# an environment that is named and that somebody else made is used as it is: nothing is installed into it
ifneq ($(and $(filter-out file,$(origin VENV)),$(wildcard $(VENV)/bin/python),$(if $(wildcard $(VENV)/.made-by-$(MINE)),,theirs)),)
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
env:
	@$(BIN)/python -c 'import d2it_nb.experiments, d2it_nb.editor, nbdev, pytest' || { echo 'Nothing was installed into $(VENV). It needs what requirements-dev.txt lists; or give the name of a folder that is not there yet.'; exit 1; }
else
env: $(VENV)/.ready
endif

# PyTorch first and alone: with a range to satisfy, pip may choose a newer build of several gigabytes
$(VENV)/.ready: requirements.txt requirements-dev.txt setup.py settings.ini
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d; try make PYTHON=python3.12 …" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	touch $(VENV)/.made-by-$(MINE)
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# run every notebook top to bottom, keep the outputs, export the modules, make the README
notebooks: env
	$(BIN)/python tools/run_notebooks.py
	$(BIN)/nbdev_export
	$(BIN)/python tools/nbtidy.py
	$(BIN)/python tools/readme.py

readme: env
	$(BIN)/python tools/readme.py

clean:
	rm -rf build dist *.egg-info _proc _docs
