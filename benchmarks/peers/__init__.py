"""Other products beside offlinekit on the same data, in the same run: `python -m benchmarks.peers`."""
