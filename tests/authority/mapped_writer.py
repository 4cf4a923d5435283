"""A program that maps the tables with SQLAlchemy and knows nothing of offlinekit: `mapped_writer.py FILE` runs steps by name."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sqlalchemy import ForeignKey, create_engine, delete, event, insert, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    """The root of the models."""


class Author(Base):
    """Has books, which go with it."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(cascade="all, delete-orphan")


class Book(Base):
    """Has a text key and a unique number, which may be null."""

    __tablename__ = "book"
    isbn: Mapped[str] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id", ondelete="CASCADE"))
    title: Mapped[str]
    number: Mapped[int | None] = mapped_column(unique=True)


def begin(session: Session) -> None:
    """Two authors, three books."""
    session.add(Author(id=1, name="Eça", books=[Book(isbn="a", title="Os Maias", number=1), Book(isbn="b", title="Relíquia")]))
    session.add(Author(id=2, name="Rosa", books=[Book(isbn="c", title="Sertão", number=3)]))


def add(session: Session) -> None:
    """One more by its relation."""
    author = session.get_one(Author, 1)
    author.books.append(Book(isbn="d", title="Primo"))


def change(session: Session) -> None:
    """One attribute."""
    session.get_one(Book, "a").title = "os maias"


def same(session: Session) -> None:
    """What is written is what is there."""
    session.execute(update(Book).values(title=Book.title, number=Book.number))
    session.merge(Author(id=2, name="Rosa"), load=True)


def orphan(session: Session) -> None:
    """A book is taken out of its author's list, and so deleted."""
    author = session.get_one(Author, 1)
    author.books.remove(next(book for book in author.books if book.isbn == "b"))


def merge(session: Session) -> None:
    """One that is there, one that is not."""
    session.merge(Book(isbn="c", author_id=2, title="Grande Sertão", number=3))
    session.merge(Book(isbn="e", author_id=1, title="Cidade", number=5))


def bulk(session: Session) -> None:
    """Many at once, past the unit of work."""
    session.execute(insert(Author), [{"id": n, "name": str(n)} for n in range(10, 30)])
    session.execute(update(Author), [{"id": 10, "name": "ten"}, {"id": 11, "name": "11"}])
    session.execute(delete(Author).where(Author.id >= 28))


def replace(session: Session) -> None:
    """One that takes the place of another with its number."""
    session.execute(insert(Book).prefix_with("OR REPLACE").values(isbn="z", title="Z", number=3))


def put(session: Session) -> None:
    """An upsert of a record that stays as it is, and of one that does not."""
    statement = upsert(Book).values([{"isbn": "a", "title": "Os Maias", "number": 1}, {"isbn": "c", "title": "new", "number": 3}])
    session.execute(statement.on_conflict_do_update(index_elements=["isbn"], set_={"title": statement.excluded.title}))


def rename(session: Session) -> None:
    """A key of one that is loaded."""
    session.get_one(Book, "a").isbn = "a2"


def gone(session: Session) -> None:
    """With its books: some by the mapper, or by the database."""
    session.delete(session.get_one(Author, 1))
    session.execute(delete(Author).where(Author.id == 2))


def undone(session: Session) -> None:
    """Nested, rolled back."""
    with session.begin_nested() as nested:
        session.get_one(Author, 1).name = "nobody"
        session.flush()
        nested.rollback()


STEPS: dict[str, Callable[[Session], None]] = {
    f.__name__: f for f in (begin, add, change, same, orphan, merge, bulk, replace, put, rename, gone, undone)
}


def main(path: str) -> None:
    """Create the tables, then run the step that each line names."""
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA foreign_keys=ON"))
    Base.metadata.create_all(engine)
    print("ready", flush=True)
    for line in sys.stdin:
        with Session(engine) as session:
            STEPS[line.strip()](session)
            session.commit()
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
