"""A program of the head office that knows nothing of offlinekit: it writes the company's tables with the standard library."""

import sqlite3
import sys


def main(path: str, product: str, percent: int, customer: str, rep: str) -> None:
    """Raises the prices of products whose names begin with a text, and gives a customer to another representative."""
    with sqlite3.connect(path, timeout=10) as db:
        prices = db.execute("UPDATE product SET price = price * (100 + ?) / 100 WHERE name LIKE ?", (percent, product + "%"))
        moved = db.execute("UPDATE customer SET rep = ? WHERE code = ?", (rep, customer))
        print(prices.rowcount, moved.rowcount)
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
