"""The wire: messages, their encoding and limits, and the sessions that exchange them; no clock, no I/O."""

__all__: list[str] = []
