"""What `make gpu` runs: tests marked `gpu`, then benchmarks of ldl on a CUDA device.

python -m benchmarks.gpu --help
"""
