"""Whether our own rows confirm a claim: confirmed, differs, not measured, or not comparable.

Owns the rule of the verdict. Rows of two realities, weights or protocols are never put together:
of the kinds that suffice, real ones come before simulated ones, and real weights before random
ones. What was judged on simulated rows says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from campaign.analysis.claims.claim import Claim
from campaign.analysis.claims.computed import Beside, Finder, finder, lacking
from campaign.analysis.claims.evidence import Evidence, weigh
from campaign.analysis.claims.learned import evidence_of, reality_of
from db.claims import Counted, Found, Source
from db.records import Reality, Weights

#: An interval wider than this many ranges of acceptance, around one of them, decides nothing.
TOO_WIDE = 2.0


class Verdict(StrEnum):
    """What our rows say of a claim."""

    CONFIRMED = "confirmed"
    DIFFERS = "differs"
    NOT_MEASURED = "not measured"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim with its verdict, why, and the evidence with the kind of rows it is made of."""

    claim: Claim
    verdict: Verdict
    why: str
    evidence: Evidence | None = None
    reality: str | None = None
    weights: str | None = None
    protocol: str | None = None
    tasks: tuple[str, ...] = ()


def judge(claim: Claim, rows: Counted, beside: Beside | None = None) -> Judged:
    """Return the verdict on a claim from the rows that count, and what was given beside them."""
    if claim.not_comparable is not None:
        return Judged(claim=claim, verdict=Verdict.NOT_COMPARABLE, why=claim.not_comparable)
    beside = beside or Beside()
    if claim.measure and claim.by == "predictor" and beside.findings is not None:
        return _learned(claim, claim.measure, beside.findings)
    find = finder(claim, beside)
    if find is None:
        return _missing(claim, lacking(claim, beside, rows))
    found = _best(claim, claim.of, rows, find)
    if found:
        evidence = weigh(found, rows.sources, claim.form, claim.over, claim.interval)
        verdict, why = decided(claim, evidence)
        return _judged(claim, verdict, why, evidence, rows)
    return _elsewhere(claim, rows, find) or _missing(claim, lacking(claim, beside, rows))


def _learned(claim: Claim, measure: str, findings: Mapping[str, object]) -> Judged:
    """Return the verdict on a claim about predictors, from the study of one."""
    evidence, reality = evidence_of(measure, findings), reality_of(findings)
    if isinstance(evidence, str):
        return Judged(claim=claim, verdict=Verdict.NOT_MEASURED, why=evidence)
    if reality in (Reality.REAL, Reality.SIMULATED):
        verdict, why = decided(claim, evidence)
    else:
        verdict = Verdict.NOT_COMPARABLE
        why = "learned from rows that others measured, or of two kinds; the claim is about its grid"
    return Judged(claim=claim, verdict=verdict, why=why, evidence=evidence, reality=reality)


def decided(claim: Claim, evidence: Evidence) -> tuple[Verdict, str]:
    """Return the verdict on a figure: in the accepted range or not, and what its interval adds."""
    low, high = (-inf if claim.accept[0] is None else claim.accept[0],
                 inf if claim.accept[1] is None else claim.accept[1])  # fmt: skip
    inside = low <= evidence.figure <= high
    width = evidence.half_width or 0.0
    least, most = evidence.figure - width, evidence.figure + width
    if least < low and most > high and 2 * width > TOO_WIDE * (high - low):
        return Verdict.NOT_MEASURED, "our interval is too wide to tell: measure more replicates"
    verdict = Verdict.CONFIRMED if inside else Verdict.DIFFERS
    if inside and (least < low or most > high):
        return verdict, "our interval reaches beyond what is accepted"
    if not inside and most >= low and least <= high:
        return verdict, "our interval reaches into what is accepted"
    return verdict, ""


def _best(
    claim: Claim, of: Mapping[str, Sequence[object]], rows: Counted, find: Finder
) -> list[Found]:
    """Return the points of the best kind of rows that has enough of them; else none."""
    kinds: dict[str, list[Found]] = defaultdict(list)
    for one in find(rows, of):
        kinds[rows.sources[one.attempts[0]].kin].append(one)
    enough = [kind for kind in kinds.values() if _points(kind) >= claim.points]
    return max(enough, key=lambda kind: _rank(kind, rows), default=[])


def _points(found: Sequence[Found]) -> int:
    return len({one.point for one in found})


def _rank(found: Sequence[Found], rows: Counted) -> tuple[bool, bool, int, int]:
    first = _source(found[0], rows)
    real = first.reality == Reality.REAL, first.weights == Weights.REAL
    return (*real, _points(found), len(found))


def _elsewhere(claim: Claim, rows: Counted, find: Finder) -> Judged | None:
    """Return what rows say that fall short of one condition of the comparison, or of all."""
    relaxed = [{key: claim.of[key] for key in claim.of if key != one} for one in claim.of]
    for without, conditions in zip((*claim.of, None), (*relaxed, {}), strict=True):
        if conditions == claim.of:
            return None
        found = _best(claim, conditions, rows, find)
        if found:
            evidence = weigh(found, rows.sources, claim.form, claim.over, claim.interval)
            names = [without] if without else list(claim.of)
            wanted = ", ".join(f"{n} {' or '.join(map(str, claim.of[n]))}" for n in names)
            why = f"the claim is about {wanted}; our rows are of something else"
            return _judged(claim, Verdict.NOT_COMPARABLE, why, evidence, rows)
    return None


def _missing(claim: Claim, lacks: str | None = None) -> Judged:
    """Return that a claim was not measured: what it needs, and what `lacks` says beside it."""
    if claim.by == "predictor":
        why = lacks or ""
    else:
        points = f"{claim.points} point{'' if claim.points == 1 else 's'}"
        why = f"needs {points}: measure +grid={claim.grid}" + (f"; {lacks}" if lacks else "")
    return Judged(claim=claim, verdict=Verdict.NOT_MEASURED, why=why)


def _judged(claim: Claim, verdict: Verdict, why: str, evidence: Evidence, rows: Counted) -> Judged:
    first = rows.sources[evidence.attempts[0]]
    return Judged(
        claim=claim,
        verdict=verdict,
        why=why,
        evidence=evidence,
        reality=first.reality,
        weights=first.weights,
        protocol=first.protocol,
        tasks=tuple(rows.sources[attempt].task_key for attempt in evidence.attempts),
    )


def _source(found: Found, rows: Counted) -> Source:
    return rows.sources[found.attempts[0]]
