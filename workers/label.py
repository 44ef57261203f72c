"""The label of a node, `campaign/board=SLUG`, read from NVML when the node starts.

Owns the refusal of a node that one label cannot describe: unlike boards, MIG, a product the
catalogue does not list, no GPU at all. Never guesses, and never labels a machine as a CPU board
unasked: a driver that is not loaded would look the same.

`python -m workers.label` prints what `ray start --labels` takes, `--json` what `--labels-file`
does. A session verifies its boards against NVML all the same; the label only finds the node.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from db.errors import NodeUnfit
from workers.boards import FoundBoard, diagnose, discover
from workers.group import uuids_of
from workers.products import BOARD_LABEL, catalog_slugs, label_value

PURPOSE = "Print the Ray label of this node: the exact product of its boards, by NVML."


def main(argv: list[str] | None = None) -> int:
    """Print the label of this node; returns 0, or 3 after one line that says what is in the way."""
    parser = argparse.ArgumentParser(prog="python -m workers.label", description=PURPOSE)
    parser.add_argument("--json", action="store_true", help="JSON, as --labels-file takes it")
    parser.add_argument("--cpu", action="store_true", help="label a machine without GPU, too")
    parser.add_argument("--expect", metavar="SLUG", help="refuse a node with other boards")
    parser.add_argument(
        "--product", metavar="NAME=SLUG", action="append", default=[], type=_product,
        help="a board of your own catalogue, by its exact NVML name; may be repeated",
    )  # fmt: skip
    asked = parser.parse_args(argv)
    try:
        slug = node_board(catalog_slugs() | dict(asked.product), cpu=asked.cpu)
    except NodeUnfit as error:
        return _refuse(str(error))
    if asked.expect not in (None, slug):
        return _refuse(f"this node holds {slug}, {asked.expect} is expected")
    label = {BOARD_LABEL: label_value(slug)}
    print(json.dumps(label) if asked.json else f"{BOARD_LABEL}={label_value(slug)}")
    return 0


def node_board(slugs: dict[str, str], *, cpu: bool = False) -> str:
    """Return the slug of the boards of this node, of those that CUDA_VISIBLE_DEVICES leaves.

    `slugs` maps exact NVML names to slugs; `cpu` allows a machine without GPU. Raises NodeUnfit.
    """
    boards = _visible(discover(slugs))
    if not boards:
        raise NodeUnfit("CUDA_VISIBLE_DEVICES leaves no GPU to this node")
    if boards[0].uuid is None:
        if not cpu:
            raise NodeUnfit(f"no GPU here: {_why_no_gpu()}; --cpu labels it as {boards[0].slug}")
        return boards[0].slug
    unlisted = sorted({board.name for board in boards if board.name not in slugs})
    if unlisted:
        raise NodeUnfit(
            f"{', '.join(unlisted)} is not in the catalogue: --product '{unlisted[0]}=SLUG' names "
            "the board of your own catalog_file"
        )
    kinds = sorted({board.slug for board in boards})
    if len(kinds) > 1:
        raise NodeUnfit(
            f"this node holds {' and '.join(kinds)}: start a Ray node for each kind, with "
            "CUDA_VISIBLE_DEVICES set to the UUIDs of its boards"
        )
    split = [str(board.index) for board in boards if board.mig]
    if split:
        raise NodeUnfit(f"MIG is on, and the sensors of a {kinds[0]} cover all its instances: "
                        f"nvidia-smi -i {','.join(split)} -mig 0")  # fmt: skip
    return kinds[0]


def _refuse(why: str) -> int:
    """Say in one line why this node gets no label; returns the exit code."""
    print(f"label: {why}", file=sys.stderr)
    return NodeUnfit.exit_code


def _visible(boards: list[FoundBoard]) -> list[FoundBoard]:
    """Return the boards that CUDA_VISIBLE_DEVICES names, all where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or boards[0].uuid is None:
        return boards
    uuids = uuids_of(visible)
    return [board for board in boards if board.uuid in uuids]


def _why_no_gpu() -> str:
    """Return NVML's own reason, with the fix."""
    nvml = diagnose()[0]
    return f"{nvml.detail}: {nvml.fix}" if nvml.fix else nvml.detail


def _product(text: str) -> tuple[str, str]:
    """Return an NVML name and the slug it stands for."""
    name, _, slug = text.rpartition("=")
    if not name or not slug:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SLUG")
    return name, slug


if __name__ == "__main__":
    sys.exit(main())
