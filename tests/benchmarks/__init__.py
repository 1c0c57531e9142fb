"""Benchmarks: sparselmm beside its peers on the same data (see docs/benchmarks.md)."""
