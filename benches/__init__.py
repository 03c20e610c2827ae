"""Benchmarks: the same programs on several event loops, judged by CPU time per operation.

``python -m benches`` measures loops against each other (:mod:`benches.cli`),
``python -m benches.compare_builds`` two builds of antiphon (:mod:`benches.compare_builds`).
benches/README.md says how to run them and how to read what they print.
"""
