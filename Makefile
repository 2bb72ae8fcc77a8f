# make demo   pretrain in MuJoCo, transfer to PyBullet and MuJoCo, verdicts: runs/quickstart/report.html
# make test   the test suite
# Short forms of scripts/start.py, which makes .venv when it has to.

PYTHON ?= python3

.PHONY: demo test lint clean

demo:
	$(PYTHON) scripts/start.py demo

test:
	$(PYTHON) scripts/start.py test

lint:
	$(PYTHON) scripts/start.py lint

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
