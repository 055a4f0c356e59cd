# Thin over start.py, which works on systems without make as well. Options of a command: ARGS="...".
PYTHON ?= python3

.PHONY: help run test lab notebooks site lock

help:
	@echo "make run        execute notebook 01 on the embedded digits (the first call installs)"
	@echo "make test       run the tests"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make notebooks  execute the notebooks again and store their outputs"
	@echo "make site       build the web site in build/site"
	@echo "make lock       renew requirements.lock after a change of pyproject.toml"

run test lab notebooks site:
	$(PYTHON) start.py $@ $(ARGS)

lock:
	.venv/bin/python -m uv pip compile --universal --python-version 3.11 --all-extras --no-header \
		--no-annotate --no-emit-index-url --upgrade --quiet --output-file requirements.lock pyproject.toml
