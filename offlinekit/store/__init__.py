"""Stores: the ports that an authority and a replica need, and their SQLite implementations."""

__all__: list[str] = []
