"""What `make gpu` runs on a machine with a CUDA GPU: a check of it, tests, and benchmarks of ldl.

python -m benchmarks.gpu --help
"""
