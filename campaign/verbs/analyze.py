"""The verb `analyze`: its next word names an analysis, which has a module and options of its own.

Owns the list of analyses, and says it where none is named. Imports none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import NoReturn

from db.errors import ConfigError

#: analysis: (module with `add_arguments` and `main`, what it does)
ANALYSES: Mapping[str, tuple[str, str]] = {
    "predictor": (
        "campaign.verbs.analyses.predictor",
        "learn energy per output token from rows, and how far to trust it",
    ),
    "sweet-spot": (
        "campaign.verbs.analyses.sweet_spot",
        "the output length of least energy per token, and how sure that is",
    ),
    "workload": (
        "campaign.verbs.analyses.workload",
        "what the requests of a trace cost, by bins of their lengths",
    ),
    "claims": (
        "campaign.verbs.analyses.claims",
        "what three papers claim, beside what our own rows say of it",
    ),
    "interactions": (
        "campaign.verbs.analyses.interactions",
        "effects and interactions of the factors of a factorial grid",
    ),
    "whole-system": (
        "campaign.verbs.analyses.whole_system",
        "the share of CPU and DRAM, and whether it reorders models",
    ),
    "carbon": (
        "campaign.verbs.analyses.carbon",
        "operational and embodied carbon of what was measured, as ranges",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define nothing but the list: each analysis has options of its own."""
    width = max(map(len, ANALYSES))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in ANALYSES.items()]
    parser.usage = "campaign analyze ANALYSIS [OPTION ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["analyses:", *lines])


def main(args: argparse.Namespace) -> NoReturn:  # noqa: ARG001 - every verb is called alike
    """Raise ConfigError: no analysis was named."""
    raise ConfigError(f"analyze what? one of {', '.join(ANALYSES)}")
