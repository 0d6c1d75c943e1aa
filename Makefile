PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types imports docs bench clean
demo: .venv/demo
	$(BIN)/tendsto check --all --budget quick
