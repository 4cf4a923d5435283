"""A thousand devices and one or two authority processes, while other programs write: `python -m benchmarks.fleet`."""
