"""Benchmarks: each figure beside a peer or a limit that was measured in the same run, on the same machine."""
