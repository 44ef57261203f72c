"""The columns of a query of db/views.sql, and where each comes from.

Reads as much SQL as those views are written in: common table expressions, joins, subqueries in
`from`, stars, and one level of `union all`, whose first query names the columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

Columns = Mapping[str, str]

#: Expressions longer than this are looked up in the file.
LONGEST = 200
_CTE = re.compile(r"(?:\bwith|,)\s+(\w+)\s+as\s+(?:materialized\s+)?\(")
_QUERY = re.compile(
    r"\bselect\b(?P<list>.*?)\bfrom\b(?P<from>.*?)(?=\bwhere\b|\bgroup by\b|\bunion all\b|$)",
    re.DOTALL,
)
_RELATION = re.compile(
    r"(?:^|\bjoin\b)\s*(?P<name>\w+)?\s*(?P<open>\()?\s*\)?\s*(?:as\s+)?"
    r"(?P<alias>(?!on\b|join\b|using\b|left\b|cross\b)\w+)?"
)
_ALIASED = re.compile(r"\bas\s+(\w+)\s*$")
_COLUMN = re.compile(r"(?:(?P<of>\w+)\.)?(?P<name>\w+|\*)")


def selected(query: str, known: Mapping[str, Columns]) -> Columns:
    """Return the columns of a query, in order, with what each is.

    `known` are the columns of tables and views by name.
    """
    text = "\n".join(line.partition("--")[0] for line in query.splitlines()).strip()
    outer = _outer(text)
    relations = dict(known)
    begun = outer.startswith("with")
    for found in _CTE.finditer(outer) if begun else ():
        relations[found[1]] = selected(_inside(text, found.end() - 1), relations)
    found_query = _QUERY.search(outer)
    if found_query is None:
        raise ValueError(f"no query that can be read here: {text[:80]}")
    joined = dict(_joined(text, outer, found_query, relations))
    columns: dict[str, str] = {}
    for item in _items(text, outer, *found_query.span("list")):
        columns |= dict(_named(item, joined))
    return columns


def _joined(
    text: str, outer: str, query: re.Match[str], relations: Mapping[str, Columns]
) -> Iterator[tuple[str, Columns]]:
    """Yield the relations of the ``from`` clause by alias."""
    clause = outer[slice(*query.span("from"))].lstrip()
    start = query.end("from") - len(clause)
    for found in _RELATION.finditer(clause):
        if found["name"] is None and found["open"] is not None:
            inner = selected(_inside(text, start + found.start("open")), relations)
            yield found["alias"] or "", inner
        elif found["name"] is not None:
            yield found["alias"] or found["name"], relations.get(found["name"], {})


def _named(item: str, joined: Mapping[str, Columns]) -> Iterator[tuple[str, str]]:
    """Yield the columns that one item of a select list gives."""
    column = _COLUMN.fullmatch(item)
    if column is not None and column["name"] == "*":
        for relation, columns in joined.items():
            if column["of"] in (None, relation):
                yield from columns.items()
        return
    if column is not None:
        yield column["name"], _passed(column, joined)
        return
    alias = _ALIASED.search(_outer(item))
    if alias is None:
        raise ValueError(f"a computed column without a name: {item[:80]}")
    computed = " ".join(item[: alias.start()].split())
    plain = _COLUMN.fullmatch(computed)
    if plain is not None:
        yield alias[1], _passed(plain, joined)
    elif len(computed) <= LONGEST:
        yield alias[1], f"`{computed}`"
    else:
        yield alias[1], "computed, in db/views.sql"


def _passed(column: re.Match[str], joined: Mapping[str, Columns]) -> str:
    """Return what the column says that is passed on."""
    places = [joined.get(column["of"], {})] if column["of"] else joined.values()
    return next((c[column["name"]] for c in places if column["name"] in c), column[0])


def _items(text: str, outer: str, start: int, end: int) -> Iterator[str]:
    """Yield the items of a select list."""
    at = start
    for comma in (*(start + m.start() for m in re.finditer(",", outer[start:end])), end):
        yield text[at:comma].strip()
        at = comma + 1


def _inside(text: str, opening: int) -> str:
    """Return what stands between a bracket and the one that closes it."""
    closing = next(at for at, letter in _bared(text[opening:]) if letter == ")")
    return text[opening + 1 : opening + closing]


def _outer(text: str) -> str:
    """Return text of the same length, blank within brackets and quotes."""
    return "".join(letter for _, letter in _bared(text))


def _bared(text: str) -> Iterator[tuple[int, str]]:
    """Yield every letter with its place, those within brackets and quotes as blanks."""
    depth, quoted = 0, False
    for at, letter in enumerate(text):
        quoted = quoted != (letter == "'")
        hidden = quoted or letter == "'"
        depth -= letter in ")]" and not hidden
        yield at, " " if hidden or depth else letter
        depth += letter in "([" and not hidden
