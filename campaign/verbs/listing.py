"""The verb `catalog`: what there is to measure: models, ablations, boards, configurations.

Owns how the catalogue's rows are shown, and the words that choose among them. A network is asked
by `catalog fetch` alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.catalogue.hub import fetch
from campaign.catalogue.sheets import Row, ablation_rows, configuration_rows
from campaign.configuration.reader import nearest
from campaign.tabular import count_of, print_table, say, write_json_rows
from db.errors import ConfigError
from workers.shapes.shape import shape_of

Record = dict[str, object]

#: The papers by the letters of the catalogue's column; a question mark: likely, not certain.
PAPERS = {"C": "2511.05597", "F": "2504.17674", "S": "2602.05695"}
#: Bytes of an element of the KV cache in bfloat16.
_HALF = 2
#: What people see of a record; JSON has all of it.
_SHOWN: Mapping[str, tuple[str, ...]] = {
    "models": ("model", "family", "parameters_b", "active_b", "layers", "window",
               "kv_bytes_per_token", "papers", "source", "aliases"),
    "ablations": ("model", "parameters_b", "layers", "kv_bytes_per_token", "evidence", "source"),
    "boards": ("board", "nvml_name", "memory_gb", "mem_bw_gbs", "bf16_dense_tflops",
               "fp16_dense_tflops", "tdp_w", "idle_w_approx", "papers"),
    "configurations": ("board", "count", "attested", "papers", "evidence"),
}  # fmt: skip
#: Other words for what a filter asks.
_ALSO = {"paper": "papers", "name": "model", "alias": "aliases"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = (
        "campaign catalog models|ablations|boards|configurations [FILTER ...] "
        "[catalog_file=PATH]. A filter is key=value, such as paper=2511.05597 or family=llama, or "
        "part of a name. campaign catalog fetch OWNER/MODEL gets an unlisted model's config.json."
    )


def main(args: argparse.Namespace) -> int:
    """List a part of the catalogue, or fetch what describes a model; returns 0."""
    words = list(args.overrides)
    what = words.pop(0) if words else ""
    if what == "fetch":
        return _fetch(words)
    if what not in _SHOWN:
        known = (*_SHOWN, "fetch")
        asked = f"{what}: no part of the catalogue" if what else "catalog takes what to list"
        raise ConfigError(f"{asked}{nearest(what, known)}")
    own = [word.partition("=")[2] for word in words if word.startswith("catalog_file=")]
    filters = [word for word in words if not word.startswith("catalog_file=")]
    read: Mapping[str, Callable[[Catalog], list[Record]]] = {
        "models": _models, "ablations": _ablations, "boards": _boards,
        "configurations": _configurations,
    }  # fmt: skip
    found = _chosen(read[what](load_catalog(Path(own[-1]) if own else None)), filters)
    if args.json:
        columns = tuple(dict.fromkeys(key for record in found for key in record))
        write_json_rows(columns, ([record.get(key) for key in columns] for record in found))
        return 0
    shown = _SHOWN[what]
    rows = [[_brief(record.get(key)) for key in shown] for record in found]
    print_table(shown, rows, stream=sys.stderr)
    say(count_of(len(found), what.removesuffix("s")))
    return 0


def _fetch(words: Sequence[str]) -> int:
    if len(words) != 1:
        raise ConfigError("catalog fetch takes one hub id, such as owner/model")
    say(f"{words[0]}: {fetch(words[0])}")
    return 0


def _models(catalog: Catalog) -> list[Record]:
    return [_model(catalog, name, catalog.row(name)) for name in catalog.models()]


def _model(catalog: Catalog, name: str, row: Row) -> Record:
    """Return what is known of a model: its sizes, and where they come from."""
    aliases = [part.strip() for part in str(row.get("aliases") or "").split(";") if part.strip()]
    return {
        "model": name,
        "aliases": aliases,
        "family": row.get("family"),
        **_sizes(catalog, name),
        "official_b": _number(row.get("params_official_b")),
        "papers": _papers(row),
        "source": row.get("source") or "catalog_file",
        "source_detail": row.get("source_detail") or None,
        "notes": row.get("notes") or None,
    }


def _sizes(catalog: Catalog, name: str) -> Record:
    """Return the sizes that follow from an architecture; nothing where it is not known."""
    architecture = catalog.model(name, "random").architecture
    shape = shape_of(name, architecture)
    if shape is None:
        return {"model_type": architecture["model_type"]}
    windows = [group.window for group in shape.groups if group.window is not None]
    return {
        "model_type": shape.family,
        "parameters": shape.parameters,
        "parameters_b": round(shape.parameters / 1e9, 4),
        "active_parameters": shape.active_parameters,
        "active_b": round(shape.active_parameters / 1e9, 4),
        "layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocabulary": shape.vocabulary,
        "max_position": shape.max_position,
        "tied": shape.tied,
        "experts": shape.experts,
        "experts_per_token": shape.experts_per_token,
        "window": windows[0] if windows else None,
        "kv_bytes_per_token": _HALF * shape.kv_elements_per_token,
        "state_bytes": _HALF * shape.state_elements,
    }


def _ablations(catalog: Catalog) -> list[Record]:
    found: list[Record] = []
    for row in ablation_rows():
        name = f"{row['base']}@{row['size']}={row['value']}"
        facts = {key: _number(row[key]) for key in ("base", "size", "value", "evidence")}
        found.append({"model": name, **facts, **_sizes(catalog, name), "papers": _papers(row),
                      "source": row["source"]})  # fmt: skip
    return found


def _boards(catalog: Catalog) -> list[Record]:
    return [_board(board.slug, catalog.sheet(board.slug)) for board in catalog.boards()]


def _board(slug: str, row: Row) -> Record:
    """Return a data sheet as the catalogue has it, numbers as numbers."""
    sheet = {key: _number(value) for key, value in row.items() if key not in ("slug", "papers")}
    return {"board": slug, **sheet, "papers": _papers(row)}


def _configurations(catalog: Catalog) -> list[Record]:
    del catalog  # boards and counts alone
    return [
        {"board": row["board"], "count": _number(row["count"]), "attested": row["attested"] == "1",
         "papers": _papers(row), "evidence": row["evidence"]}
        for row in configuration_rows()
    ]  # fmt: skip


def _papers(row: Row) -> list[str]:
    """Return the papers that a row is marked with, by their arXiv numbers."""
    marks = str(row.get("papers") or "").replace(" ", "")
    found = [PAPERS.get(letter, letter) for letter in marks if letter != "?"]
    return [*found[:-1], f"{found[-1]}?"] if marks.endswith("?") else found


def _number(value: object) -> object:
    """Return what a cell holds: a number where it is one, None where it is empty."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value or None


def _chosen(records: list[Record], filters: Sequence[str]) -> list[Record]:
    """Return the records that every filter fits. Raises ConfigError for a key that none has."""
    known = dict.fromkeys(key for record in records for key in record)
    for word in filters:
        key, equals, value = word.partition("=")
        key = _ALSO.get(key, key)
        if equals and key not in known:
            near = nearest(key, (*known, *_ALSO)) or f"; columns: {', '.join(known)}"
            raise ConfigError(f"{word}: no such column{near}")
        records = [r for r in records if (_fits(r[key], value) if equals else _named(r, word))]
    return records


def _fits(cell: object, value: str) -> bool:
    """Whether a cell is a value, begins with it as text, or has it in its list."""
    if isinstance(cell, list):
        return any(_fits(item, value) for item in cell)
    if isinstance(cell, bool) or cell is None:
        return str(cell).lower() == value.lower()
    if isinstance(cell, str):
        return cell.lower().startswith(value.lower())
    return str(cell) == value


def _named(record: Record, word: str) -> bool:
    """Whether a word is part of a record's first column or of another name for it."""
    names = [next(iter(record.values())), *_list(record.get("aliases")), record.get("nvml_name")]
    return any(word.lower() in str(name).lower() for name in names if name)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _brief(cell: object) -> object:
    """Return a cell for a table: a list as words, no empty list."""
    return (" ".join(map(str, cell)) or None) if isinstance(cell, list) else cell
