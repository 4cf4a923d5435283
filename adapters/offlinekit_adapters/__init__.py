"""Adapters of offlinekit to the outside world; each imports what it needs only when it is imported itself."""

__all__: list[str] = []
