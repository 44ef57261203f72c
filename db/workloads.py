"""A workload as a task's row has it: its sizes in columns, what else it asks for by field name.

A field that is not there has its default, so a field added later leaves older rows as they were.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import sqlalchemy as sa

from db.errors import ConfigError
from db.records import Workload


def beyond_sizes(workload: Workload) -> str:
    """Return what a workload asks for beyond its sizes, as JSON: what differs from a default."""
    chosen = {
        field.name: value
        for field in fields(workload)
        if field.default is not MISSING
        and (value := getattr(workload, field.name)) != field.default
    }
    return json.dumps(chosen, allow_nan=False)


def read_workload(row: sa.Row[Any]) -> Workload:
    """Return the workload of a task's row; ConfigError if it asks for what is not known here."""
    unknown = set(row.workload) - {field.name for field in fields(Workload)}
    if unknown:
        raise ConfigError(
            f"task {row.key} asks for {', '.join(sorted(unknown))}, which this program does not "
            "know: install the campaign that enqueued it, or a newer one"
        )
    return Workload(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        batch_size=row.batch_size,
        **row.workload,
    )
