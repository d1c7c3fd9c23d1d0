"""Benchmarks of ldl: its kernels, its steps beside those of other libraries, its cold start.

python -m benchmarks --help        # everything, as `make bench` runs it
python -m benchmarks.end_to_end --help
"""
