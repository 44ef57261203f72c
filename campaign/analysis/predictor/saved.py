"""A predictor in a folder: JSON, a forest without pickle, and a card for people.

Owns the folder's form. Written aside and renamed, so a folder is whole or not there; read with
distrust: what is not exactly a predictor is refused in one line.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from campaign.analysis.predictor import physics
from campaign.analysis.predictor.card import card
from campaign.analysis.predictor.conformal import Interval
from campaign.analysis.predictor.crossing import PHYSICS
from campaign.analysis.predictor.dataset import Inputs
from campaign.analysis.predictor.features import NAMES
from campaign.analysis.predictor.physics import Array, Physics
from campaign.analysis.predictor.point import Point
from campaign.analysis.predictor.ranges import WORDS, Ranges
from campaign.analysis.predictor.regressors import keep, kept
from campaign.analysis.predictor.seen import GROUPS, Names, new_of
from campaign.analysis.predictor.study import WAYS, Study
from campaign.analysis.predictor.unseen import ASKED, POINT
from campaign.tabular import plain
from db.errors import ConfigError

FORMAT = "campaign-predictor-4"
MODEL, TREES, CARD = "predictor.json", "forest.skops", "card.md"
#: No predictor of ours is larger; a file that is, is none.
LARGEST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A predictor that was read: what it predicts by, its intervals, and where it learned.

    `intervals` are by who predicts and what is asked about, `names` the groups that were seen.
    `findings` are those of its study; `learned` are digests of its points, None where the folder
    does not say them.
    """

    folder: Path
    physics: Physics
    intervals: Mapping[str, Mapping[str, Interval]]
    ranges: Ranges
    names: Names
    findings: Mapping[str, object]
    learned: frozenset[str] | None

    def predict(self, inputs: Inputs, way: str) -> Array:
        """Return joules per output token, by physics or by forest."""
        if way == PHYSICS:
            return self.physics.predict(inputs.parts, inputs.context)
        forest = kept(self.folder / TREES, len(NAMES))
        return np.exp(forest(inputs.features))

    def around(self, point: Point, way: str) -> tuple[str, Interval, list[str]]:
        """Return for what the interval of a point is, the interval, and what of it has none.

        Of several that are new the widest counts; a point of what was seen has one of its own.
        """
        asked = new_of(point, self.names)
        known = {kind: one for kind, one in self.intervals[way].items() if kind in asked}
        lacking = [kind for kind in asked if kind not in known]
        among = (self.intervals[way] if lacking else known) or {POINT: self.intervals[way][POINT]}
        kind = max(among, key=lambda one: among[one].factor)
        return kind, among[kind], lacking


def write(study: Study, folder: Path) -> None:
    """Write a predictor. ConfigError where something else is in the way."""
    require_free(folder)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        learned = study.learned
        document = {
            "format": FORMAT,
            "features": list(NAMES),
            "physics": learned.physics.plain(),
            "intervals": {
                way: {kind: asdict(one) for kind, one in kinds.items()}
                for way, kinds in learned.intervals.items()
            },
            "ranges": asdict(learned.ranges),
            "learned": learned.points,
            "names": learned.names,
            "findings": study.findings,
        }
        text = json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False)
        (aside / MODEL).write_text(text + "\n", encoding="utf-8")
        (aside / CARD).write_text(card(study), encoding="utf-8")
        keep(learned.forest, aside / TREES)
        _exchange(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_free(folder: Path) -> None:
    """Raise ConfigError where a predictor must not be written: over anything but a predictor."""
    if folder == Path.cwd():
        raise ConfigError("--save: is the folder you are in; name one inside of it")
    if folder.is_dir() and ((folder / MODEL).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"--save {folder}: is there and holds no predictor; name another folder")
    parent = folder.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(f"--save {folder}: {parent} cannot be written to")


def _exchange(new: Path, folder: Path) -> None:
    """Put a finished folder in its place; one that was there goes once the new one stands."""
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def read(folder: Path) -> Predictor:
    """Return the predictor of a folder. ConfigError for anything else."""
    path = folder / MODEL
    if not path.is_file():
        raise ConfigError(f"--model-dir {folder}: holds no {MODEL}; "
                          "`campaign analyze predictor --save` writes one")  # fmt: skip
    if path.stat().st_size > LARGEST_BYTES:
        raise ConfigError(f"{path}: too large for a predictor")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or tuple(document["features"]) != NAMES:
            raise ConfigError(f"{path}: another version's; learn it again with this one")
        return Predictor(
            folder=folder,
            physics=physics.from_plain(document["physics"]),
            intervals={way: _intervals(document["intervals"][way]) for way in WAYS},
            ranges=_ranges(document["ranges"]),
            names={kind: tuple(map(str, document["names"][kind])) for kind in GROUPS},
            findings=dict(document["findings"]),
            learned=_learned(document.get("learned")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no predictor: {type(error).__name__} {error}") from error


def _learned(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("learned")
    return frozenset(map(str, value))


def _intervals(value: Mapping[str, Mapping[str, float]]) -> dict[str, Interval]:
    if not {POINT, "model"} <= value.keys() <= set(ASKED):
        raise ValueError(f"intervals for {', '.join(value)}")
    return {kind: _interval(one) for kind, one in value.items()}


def _interval(value: Mapping[str, float]) -> Interval:
    found = Interval(
        factor=float(value["factor"]),
        level=float(value["level"]),
        promised=float(value["promised"]),
        groups=int(value["groups"]),
    )
    if not 1.0 <= found.factor < float("inf"):
        raise ValueError("an interval below its prediction")
    return found


def _ranges(value: Mapping[str, Mapping[str, list[object]]]) -> Ranges:
    numbers = {name: value["numbers"][name] for name in NAMES}
    return Ranges(
        numbers={
            name: (float(str(low)), float(str(high))) for name, (low, high) in numbers.items()
        },
        words={name: tuple(str(word) for word in value["words"][name]) for name in WORDS},
    )
