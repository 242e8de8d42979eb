"""Builds, tests and measures the CUDA kernels on the GPU at hand: ``python -m bench.gpu``."""
