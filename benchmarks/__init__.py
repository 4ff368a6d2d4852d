"""Benchmarks: run by hand, figures as ratios within one run, recorded in docs/performance.md."""
