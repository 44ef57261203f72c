"""The keys of many tasks: those of `db.identity.task_key`, with what tasks share worked out once.

A grid has few engines, few workloads and one protocol. The bytes that are hashed are the same ones;
a test compares them for whatever a workload may ask for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import MISSING, fields

from db.identity import KEY_VERSION, PROTOCOL_FIELDS, WORKLOAD_FIELDS, canonical
from db.records import MeasurementProtocol, Reality, Workload


class Keys:
    """Keys of tasks that are measured by one protocol in one reality."""

    def __init__(self, protocol: MeasurementProtocol, reality: Reality) -> None:
        """Work out what all of them share."""
        self._protocol = canonical(_chosen(protocol, PROTOCOL_FIELDS))
        self._reality = canonical(str(reality))
        self._endings: dict[Workload, bytes] = {}

    def of(self, digest: str, replicate: int) -> Callable[[bytes], str]:
        """Return what makes the keys of an engine's replicate from the endings of workloads."""
        beginning = hashlib.sha256(
            f'{{"engine":{canonical(digest)},"protocol":{self._protocol},'
            f'"reality":{self._reality},"replicate":{replicate}'.encode()
        )

        def key(ending: bytes) -> str:
            task = beginning.copy()
            task.update(ending)
            return f"{KEY_VERSION}:{task.hexdigest()}"

        return key

    def ending(self, workload: Workload) -> bytes:
        """Return the end of the canonical form of every task with this workload."""
        known = self._endings.get(workload)
        if known is None:
            text = f',"workload":{canonical(_chosen(workload, WORKLOAD_FIELDS))}}}'
            known = self._endings[workload] = text.encode()
        return known


def _chosen(record: MeasurementProtocol | Workload, names: tuple[str, ...]) -> dict[str, object]:
    """Return the named fields that differ from their default, as identity chooses them."""
    defaults = {field.name: field.default for field in fields(record)}
    values = {name: getattr(record, name) for name in names}
    return {n: v for n, v in values.items() if defaults[n] is MISSING or v != defaults[n]}
