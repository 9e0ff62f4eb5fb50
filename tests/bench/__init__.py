"""The figures of docs/performance.md: `make bench`, or `python -m tests.bench reads rotation` for some of them.

Each is a ratio against a baseline measured in the same run, in turns with it; pytest collects nothing here.
"""
