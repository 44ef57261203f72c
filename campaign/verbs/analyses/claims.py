"""`analyze claims`: what three papers claim, beside what our own rows say of it.

Owns the words of its answer. docs/claims.md says what a verdict means.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from campaign.analysis.claims.claim import Claim, load_claims
from campaign.analysis.claims.computed import Beside
from campaign.analysis.claims.judging import Judged, judge
from campaign.analysis.claims.shapes import sizes_of
from campaign.analysis.predictor.saved import read
from campaign.configuration.reader import nearest
from campaign.storeroom import existing, place, split
from campaign.tabular import count_of, print_table, say, write_json
from campaign.verbs.analyses.trace import trace_of
from db.claims import counted
from db.errors import ConfigError
from db.records import Reality

COLUMNS = ("claim", "paper", "paper's figure", "ours", "95 % interval", "it contains", "rows",
           "verdict", "why")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which claims, and on which rows."""
    parser.epilog = (
        "campaign analyze claims [CLAIM ...] [store overrides]. Without a name: every claim."
    )
    parser.add_argument("--campaign", metavar="NAME", help="count the rows of this campaign alone")
    parser.add_argument(
        "--list", action="store_true", help="list the claims with the grid that tests each"
    )
    parser.add_argument(
        "--trace", metavar="CLAIM=TRACE", action="append", default=[],
        help="trace of a claim about a workload, by name or ./FILE.csv; again for another",
    )  # fmt: skip
    parser.add_argument("--model-dir", type=Path, metavar="DIR",
                        help="a saved predictor, for the claims about predictors")  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Print the reproduction table; returns 0."""
    words, overrides = split(args.overrides)
    claims = _chosen(load_claims(), words)
    if args.list:
        _list(claims, as_json=args.json)
        return 0
    beside = _beside(args, claims)
    with existing(place(overrides)) as store, counted(store.store, args.campaign) as rows:
        rows.tell_shapes(sizes_of)
        judged = [judge(claim, rows, beside) for claim in claims]
        counts, left_out = len(rows.sources), rows.left_out
    if args.json:
        write_json({
            "rows_counted": counts, "rows_left_out": left_out,
            "claims": [_document(one) for one in judged],
        })  # fmt: skip
        return 0
    print_table(COLUMNS, [_row(one) for one in judged])
    verdicts = Counter(str(one.verdict) for one in judged)
    tally = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    say(f"{count_of(len(judged), 'claim')}: {tally}; {count_of(counts, 'measurement')} counted, "
        f"{left_out} left out (without joules, or marked as doubtful)")  # fmt: skip
    return 0


def _beside(args: argparse.Namespace, claims: Sequence[Claim]) -> Beside:
    """Return what was given beside the rows. Raises ConfigError."""
    about = {claim.id for claim in claims if claim.by == "workload"}
    traces = {}
    for text in args.trace:
        claim, equals, name = text.partition("=")
        if not equals or claim not in about:
            told = nearest(claim, about) if equals else ""
            raise ConfigError(f"--trace {text}: CLAIM=TRACE, of a claim about a workload{told}")
        traces[claim] = trace_of(name)
    folder = None if args.model_dir is None else args.model_dir.expanduser()
    return Beside(traces=traces, findings=None if folder is None else read(folder).findings)


def _chosen(claims: Sequence[Claim], words: Sequence[str]) -> list[Claim]:
    known = {claim.id: claim for claim in claims}
    for word in words:
        if word not in known:
            raise ConfigError(f"no claim is called {word}{nearest(word, known)}")
    return [known[word] for word in words] if words else list(claims)


def _list(claims: Sequence[Claim], *, as_json: bool) -> None:
    if as_json:
        write_json([_said(claim) for claim in claims])
        return
    print_table(
        ("claim", "paper", "section", "what it says", "grid"),
        [(one.id, one.paper, one.section, one.claim, one.grid) for one in claims],
    )


def _said(claim: Claim) -> dict[str, object]:
    """Return what the paper says, and how it is asked."""
    return {
        "id": claim.id, "paper": claim.paper, "section": claim.section, "claim": claim.claim,
        "figure": claim.figure, "unit": claim.unit, "accept": claim.accept, "grid": claim.grid,
        "needs_points": claim.points, "of": claim.of, "sql": claim.sql, "by": claim.by,
        "measure": claim.measure, "note": claim.note,
    }  # fmt: skip


def _document(one: Judged) -> dict[str, object]:
    """Return a judged claim as JSON has it."""
    evidence = one.evidence
    found: dict[str, object] | None = None
    if evidence is not None:
        low, high = _interval(one) or (None, None)
        found = {
            "figure": evidence.figure, "low": low, "high": high, "contains": evidence.contains,
            "points": evidence.points, "replicates": evidence.replicates,
            "sessions": evidence.sessions, "measurements": len(evidence.attempts),
            "reality": one.reality, "weights": one.weights, "protocol": one.protocol,
            "tasks": one.tasks,
        }  # fmt: skip
    return {**_said(one.claim), "verdict": one.verdict, "why": one.why, "ours": found}


def _interval(one: Judged) -> tuple[float, float] | None:
    if one.evidence is None or one.evidence.half_width is None:
        return None
    figure, width = one.evidence.figure, one.evidence.half_width
    return figure - width, figure + width


def _row(one: Judged) -> tuple[object, ...]:
    """Return a judged claim as people read it."""
    claim, evidence, interval = one.claim, one.evidence, _interval(one)
    unit = claim.unit if claim.unit == "%" else ""
    figure = _asked(claim) if claim.figure is None else f"{claim.figure:g} {unit}".strip()
    if evidence is None:
        return (claim.id, claim.paper, figure, None, None, None, None, one.verdict, one.why)
    simulated = " (simulated)" if one.reality == Reality.SIMULATED else ""
    rows = f"{len(evidence.attempts)} {one.reality}, {one.weights} weights"
    if not evidence.attempts:
        rows = f"{evidence.points} that the predictor learned from"
    between = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else None
    return (claim.id, claim.paper, figure, f"{evidence.figure:.4g} {unit}".strip(), between,
            evidence.contains, rows, f"{one.verdict}{simulated}", one.why or None)  # fmt: skip


def _asked(claim: Claim) -> str | None:
    """Return the accepted range of a claim without a figure."""
    low, high = claim.accept
    if low is None and high is None:
        return None
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
