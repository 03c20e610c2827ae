"""Tests of the benchmarks: ``pytest benches/tests``. Any interpreter will do; no loop is needed but
asyncio.
"""
