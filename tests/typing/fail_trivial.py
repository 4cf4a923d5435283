"""Must be refused by both checkers, on the marked lines and on no others."""

total: int = "forty-two"  # error
name: str = "São Bento"
name.no_such_method()  # error
