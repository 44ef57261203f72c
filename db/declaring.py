"""How the tables of the store declare their columns: one builder a kind, a comment for each.

Owns the metadata that every table is in, and how constraints are named. Knows no table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)
EMPTY = text("'{}'")


def one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """Return the check that a text column holds a value of the enum."""
    values = ", ".join(f"'{s}'" for s in states)
    return CheckConstraint(f"{column} in ({values})", name=column)


def surrogate_key(kind: type[sa.Integer]) -> Column[Any]:
    """Return a key that Postgres draws."""
    return Column("id", kind, sa.Identity(always=True), primary_key=True, comment="surrogate key")


def string(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    """Return a text column."""
    return Column(name, sa.Text, nullable=null, comment=comment)


def double(name: str, comment: str, *, null: bool = True) -> Column[Any]:
    """Return a float column; its comment says the unit."""
    return Column(name, sa.Double, nullable=null, comment=comment)


def integer(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    """Return a column of whole numbers."""
    return Column(name, sa.Integer, nullable=null, comment=comment)


def moment(name: str, comment: str, *, now: bool = False) -> Column[Any]:
    """Return a point in time; with `now` when the row was written."""
    default = sa.func.now() if now else None
    kind = TIMESTAMP(timezone=True)
    return Column(name, kind, nullable=not now, server_default=default, comment=comment)


def strings(name: str, comment: str) -> Column[Any]:
    """Return a list of texts, empty by default."""
    return Column(name, ARRAY(sa.Text), nullable=False, server_default=EMPTY, comment=comment)


def document(name: str, comment: str) -> Column[Any]:
    """Return a JSON object, empty by default."""
    return Column(name, JSONB, nullable=False, server_default=EMPTY, comment=comment)


def large(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    """Return a column of whole numbers that outgrow four bytes."""
    return Column(name, sa.BigInteger, nullable=null, comment=comment)


def counter(name: str, comment: str) -> Column[Any]:
    """Return a count that starts at zero."""
    return Column(name, sa.Integer, nullable=False, server_default="0", comment=comment)
