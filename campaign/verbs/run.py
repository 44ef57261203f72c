"""The verb `run`: measure what is not measured yet."""

from __future__ import annotations

import argparse

from campaign.configuration.config import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`run` takes overrides only."""


def main(args: argparse.Namespace) -> int:
    """Run a campaign to its end; returns the exit code.

    The configuration comes before the driver's slow imports: bad input is answered at once.
    """
    settings = load(args.overrides)
    from campaign.running.driver import drive

    return drive(settings, as_json=args.json)
