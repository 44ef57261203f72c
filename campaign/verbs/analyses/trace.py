"""A trace as it is named on a command line: of `campaign fetch`, or a file of one's own.

Owns what is wrong with such a name.
"""

from __future__ import annotations

from pathlib import Path

from campaign.configuration.reader import nearest
from db.errors import ConfigError
from workers.workloads.tracefiles import (
    is_file,
    is_trace,
    listed,
    locate,
    resolve,
    traces_folder,
)
from workers.workloads.traces import Trace, read_trace


def trace_of(name: str) -> Trace:
    """Return a trace by name or path. Raises ConfigError where it is not there."""
    if is_file(name):
        return read_trace(Path(name).expanduser())
    if not is_trace(name):
        own = f"; a file of your own is written ./{name}" if Path(name).is_file() else ""
        raise ConfigError(f"there is no trace {name}{own or nearest(name, listed())}")
    path, digest = locate(resolve(name), traces_folder())
    trace = read_trace(path)
    if not trace.sha256.startswith(digest):
        raise ConfigError(f"trace {name}: {path} is another file; remove it, then fetch")
    return trace
