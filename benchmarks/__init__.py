"""Benchmarks of real nodes beside other programs in one run: ``python -m benchmarks --help``."""
