"""Benchmarks of ldl: its kernels, its steps beside those of other libraries, its cold start.

python -m benchmarks --help        # on a processor: what `make bench` runs
python -m benchmarks.gpu --help    # on a GPU: what `make gpu` runs
"""
