"""Damaged requests against a real service: `make fuzz`, or `python -m tests.fuzz --help`. Not a part of `make test`."""
