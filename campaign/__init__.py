"""Measures what inference of language models costs, and asks what was measured.

The Python interface, described in docs/api.md: `read` gives the rows of a store, `estimate` what a
batch would take, `meter` the joules of a block of code. Everything else is the command line's and
may change. Importing this package imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from campaign.forecast.estimated import Estimate
    from campaign.verbs.meter import Metering
    from campaign.verbs.reading import GpuResult, MeterResult
    from db.errors import CampaignError, ConfigError, NodeUnfit, StoreUnavailable
    from db.place import Place
    from db.readings import CpuEnergy

__all__ = [
    "CampaignError",
    "ConfigError",
    "CpuEnergy",
    "Estimate",
    "GpuResult",
    "MeterResult",
    "Metering",
    "NodeUnfit",
    "StoreUnavailable",
    "estimate",
    "meter",
    "read",
]

#: Types by the module that is loaded once one of them is asked for.
_TYPES = {
    "campaign.forecast.estimated": ("Estimate",),
    "campaign.verbs.meter": ("Metering",),
    "campaign.verbs.reading": ("GpuResult", "MeterResult"),
    "db.errors": ("CampaignError", "ConfigError", "NodeUnfit", "StoreUnavailable"),
    "db.readings": ("CpuEnergy",),
}

if not TYPE_CHECKING:  # a checker must go on refusing names that are not there

    def __getattr__(name: str) -> object:
        """Return a public type."""
        for module, names in _TYPES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def read(
    campaign: str | None = None,
    *,
    source: str | None = None,
    store: str | Path | None = None,
    reality: str | Collection[str] | None = None,
) -> DataFrame:
    """Return rows of a store, one per accepted measurement or imported row, as a DataFrame.

    `campaign` names one; without it, and without `source`, the measurements of all campaigns.
    `source` names what was imported, ``*`` all of it: imported rows never come unasked. `reality`
    keeps some of real, simulated and external. `store` is a URL, or the folder of an embedded
    store; without it the one that the command line uses.

    The columns, their units and what is missing are described in docs/import.md. Raises
    ConfigError for a name that is not known, StoreUnavailable where no store answers.
    """
    from campaign.analysis.rows import stored_rows
    from campaign.storeroom import existing, place

    where = place(()) if store is None else _place(store)
    kept = (reality,) if isinstance(reality, str) else reality
    with existing(where) as found:
        return stored_rows(found.store, campaign=campaign, source=source, reality=kept)


def estimate(
    model: str,
    board: str,
    *,
    input_tokens: int,
    output_tokens: int,
    batch_size: int = 1,
    gpus: int = 1,
    tensor_parallel: int | None = None,
    backend: str = "vllm",
    version: str | None = None,
    dtype: str = "auto",
    quantization: str | None = None,
    speculation: str | None = None,
    speculative_tokens: int | None = None,
    acceptance_length: float | None = None,
    eager: bool = False,
    store: str | Path | None = None,
    catalog_file: str | Path | None = None,
) -> Estimate:
    """Return what one batch of a model would take on a board group, before it is run.

    Computed from the model's shape and the board's data sheet, as by the verb `estimate`, whose
    options these are (docs/estimate.md). `store`, a URL or the folder of an embedded store,
    corrects it by what was measured; `catalog_file` adds models and boards of one's own.

    What does not fit, or is not known, is None with the reason. Raises ConfigError for wrong input
    and for a store that is not there, StoreUnavailable for one that does not answer.
    """
    from campaign.catalogue.catalog import load_catalog
    from campaign.forecast.asked import Question, asked_for
    from campaign.forecast.estimated import estimated, measured_correction

    catalog = load_catalog(None if catalog_file is None else Path(catalog_file))
    asked = asked_for(
        catalog,
        Question(
            model=model, board=board, input_tokens=input_tokens, output_tokens=output_tokens,
            batch_size=batch_size, gpus=gpus, tensor_parallel=tensor_parallel, backend=backend,
            version=version, dtype=dtype, quantization=quantization, speculation=speculation,
            speculative_tokens=speculative_tokens, acceptance_length=acceptance_length,
            eager=eager,
        ),
    )  # fmt: skip
    if store is None:
        return estimated(asked)
    from campaign.storeroom import existing

    with existing(_place(store)) as found:
        return estimated(asked, measured_correction(found, catalog, asked))


def meter(
    gpus: int | str | Iterable[int | str] | None = None, *, interval_s: float = 0.1
) -> AbstractContextManager[Metering]:
    """Meter the block under ``with``; the `result` of what it yields is there after the block.

    `gpus` are indices as nvidia-smi counts them or UUIDs, one, several, or a text with commas;
    without them those of CUDA_VISIBLE_DEVICES, else all. The CPU is metered as well where RAPL is
    readable. `interval_s` is the time between power samples. The meters run in a process of their
    own; the block is not changed, and a result is there too when it raises.

    On entering, raises NodeUnfit where nothing can be metered, or not the GPUs that were named, and
    ConfigError for GPUs that are not here. What fails later is None in the result, with a reason.
    """
    from campaign.verbs.meter import metering

    if gpus is None or isinstance(gpus, int | str):
        return metering(None if gpus is None else str(gpus), interval_s)
    return metering(",".join(map(str, gpus)), interval_s)


def _place(store: str | Path) -> Place:
    """Return the store of a URL, or of a folder."""
    from db.place import Place

    if "://" in str(store):
        return Place(url=str(store))
    return Place(folder=str(Path(store).expanduser()))
