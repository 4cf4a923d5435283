"""Must satisfy both checkers: proves that the harness lets correct code through."""

total: int = 40 + 2
name: str = "São Bento"
