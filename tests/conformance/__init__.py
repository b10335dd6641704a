"""ONNX's backend suite.

    python -m tests.conformance [WORD …] [--list]     cases whose names have a word; all take some minutes
    python -m tests.conformance --page --update       and write docs/conformance.md and the list of what passes

cases.py     reads the cases, runs one by the reference backend, compares
figures.py   runs them compiled, too, and counts
passing.txt  what passes by the reference
"""
