"""How a file of others becomes rows of ours: a small YAML of names, units, constants and values.

Owns that file's form. A column of theirs is used, ignored by name, or refused; a value that the
mapping does not know is a problem of its row. Guesses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from campaign.analysis.columns import BY_NAME, Kind
from campaign.analysis.sheet import Sheet
from campaign.configuration.overrides import CONF
from campaign.configuration.reader import nearest
from db.errors import ConfigError
from db.records import Scalar

FOLDER = CONF / "import"
#: What a rule may say beside the name of their column.
KEYS = frozenset({"from", "factor", "values", "is"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A cell that the mapping has no value for, or cannot calculate with."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where a column of ours comes from: `column` of theirs times `factor`, or a constant.

    `values` holds what each of their values is called here; None leaves the cell empty.
    """

    column: str | None = None
    factor: float = 1.0
    values: Mapping[str, Scalar] | None = None
    constant: Scalar = None

    def cells(self, sheet: Sheet) -> Sequence[object]:
        """Return the cells of our column; `Unknown` where the mapping says nothing."""
        if self.column is None:
            return [self.constant] * len(sheet.lines)
        theirs = sheet.columns[self.column]
        if self.values is not None:
            return [self._called(cell) for cell in theirs]
        return theirs if self.factor == 1.0 else [self._times(cell) for cell in theirs]

    def _called(self, cell: object) -> object:
        if cell in (None, ""):
            return None
        values = self.values or {}
        word = str(cell)
        if word in values:
            return values[word]
        return Unknown(problem=f"{self.column} {word!r} is in no value of the mapping"
                       f"{nearest(word, values)}")  # fmt: skip

    def _times(self, cell: object) -> object:
        if cell in (None, ""):
            return None
        try:
            return float(str(cell)) * self.factor
        except ValueError:
            return Unknown(problem=f"{self.column} {str(cell)[:40]!r} is not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The rules of one mapping, by our columns, and their columns that nobody asks for."""

    name: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def translated(self, path: Path, sheet: Sheet) -> Sheet:
        """Return a sheet in our columns. ConfigError for a column nobody reads, or one missing."""
        used = {rule.column for rule in self.rules.values() if rule.column is not None}
        missing = sorted(used - set(sheet.columns))
        if missing:
            raise ConfigError(
                f"{path}: the mapping {self.name} reads {', '.join(missing)}, which is not there"
                f"{nearest(missing[0], sheet.columns)}"
            )
        own = [c for c in sheet.columns if c not in used | self.ignored | set(self.rules)]
        _refuse_unknown(path, own, self, used)
        columns = {name: sheet.columns[name] for name in own}
        columns |= {name: rule.cells(sheet) for name, rule in self.rules.items()}
        return Sheet(columns=columns, lines=sheet.lines, ragged=sheet.ragged)


def _refuse_unknown(
    path: Path, columns: Sequence[str], translation: Translation, used: set[str]
) -> None:
    unknown = [name for name in columns if name not in BY_NAME]
    if not unknown:
        return
    said = "\n".join(f"{path}: {name}: no such column{nearest(name, BY_NAME)}" for name in unknown)
    fitting = [] if used else [t for t in shipped() if _fits(t, unknown)]
    if fitting:
        raise ConfigError(f"{path}: these are the columns of {fitting[0]}: add --map {fitting[0]}")
    fix = f"add it to {translation.name}" if used else "--map FILE.yaml translates or ignores them"
    raise ConfigError(f"{said}\n{path}: {fix}")


def _fits(name: str, unknown: Sequence[str]) -> bool:
    known = load(name)
    read = {rule.column for rule in known.rules.values()} | known.ignored
    return set(unknown) <= read


def shipped() -> list[str]:
    """Return the names of the mappings that ship with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str | None) -> Translation:
    """Return a mapping that ships, by name, or the one in a YAML file. ConfigError if wrong."""
    import yaml

    if name is None:
        return Translation(name="no mapping")
    path = Path(name).expanduser()
    if name in shipped():
        path = FOLDER / f"{name}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--map {name}: no such mapping{nearest(name, shipped())}; "
                          "one of your own is a .yaml file")  # fmt: skip
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--map {name} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--map {name} is not YAML: {' '.join(str(error).split())}") from error
    return _read(name, content)


def _read(name: str, content: object) -> Translation:
    where = f"--map {name}"
    if not isinstance(content, dict) or set(content) - {"columns", "ignore"}:
        raise ConfigError(f"{where}: it must hold `columns:` and `ignore:`, nothing else")
    columns, ignored = content.get("columns") or {}, content.get("ignore") or []
    if not isinstance(columns, dict) or not isinstance(ignored, list):
        raise ConfigError(f"{where}: columns is a mapping, ignore a list of names")
    problems = [
        f"{where}: {ours}: no such column{nearest(str(ours), BY_NAME)}"
        for ours in columns
        if ours not in BY_NAME
    ]
    problems += [p for ours, rule in columns.items() for p in _problems(where, str(ours), rule)]
    if problems:
        raise ConfigError("\n".join(problems))
    rules = {ours: _rule(rule) for ours, rule in columns.items()}
    return Translation(name=name, rules=rules, ignored=frozenset(map(str, ignored)))


def _problems(where: str, ours: str, rule: object) -> Iterator[str]:
    """Say what is wrong with one rule."""
    if isinstance(rule, str):
        return
    if not isinstance(rule, dict) or not rule or set(rule) - KEYS:
        yield f"{where}: {ours} is a column's name, or some of from, factor, values; or is"
        return
    if ("is" in rule) == ("from" in rule) or ("is" in rule and len(rule) > 1):
        yield f"{where}: {ours} has either `from`, a column of theirs, or `is`, a constant"
    factor, values = rule.get("factor", 1.0), rule.get("values", {})
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not factor > 0:
        yield f"{where}: {ours}: factor {factor!r} is not a number above zero"
    elif factor != 1.0 and ours in BY_NAME and BY_NAME[ours].kind is Kind.TEXT:
        yield f"{where}: {ours} is text: a factor is for numbers"
    if not isinstance(values, dict):
        yield f"{where}: {ours}: values is a mapping from theirs to ours"
    elif "values" in rule and "factor" in rule:
        yield f"{where}: {ours} has either values or a factor"


def _rule(rule: str | Mapping[str, object]) -> Rule:
    if isinstance(rule, str):
        return Rule(column=rule)
    values = rule.get("values")
    if values is not None:
        assert isinstance(values, dict)  # noqa: S101 - looked at by _problems
        values = {str(theirs): ours for theirs, ours in values.items()}
    return Rule(
        column=None if rule.get("from") is None else str(rule["from"]),
        factor=float(str(rule.get("factor", 1.0))),
        values=values,
        constant=rule.get("is"),  # type: ignore[arg-type]  # a scalar, or refused as a cell
    )
