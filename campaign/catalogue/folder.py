"""A model in a local folder: its ``config.json``, and whether weights lie beside it.

Reads files and never executes any; weights are safetensors or they are not there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from db.errors import ConfigError
from db.records import ModelSpec, Scalar, Weights
from workers.shapes.families import FAMILIES, SIZES, Config
from workers.shapes.shape import Architecture
from workers.shapes.stack import impossible, lacking

#: Says nothing about what is computed: provenance, generation defaults, rotary constants; or of
#: weights alone (quantization), which random ones do not have; or what all of a family say alike
#: (the attention of MPT and GPT-Neo).
_IGNORED = frozenset(
    {"_name_or_path", "attention_types", "attn_config", "auto_map", "compression_config", "dtype",
     "quantization_config", "rope_parameters", "rope_scaling", "task_specific_params",
     "torch_dtype", "transformers_version", "use_cache"}
)  # fmt: skip
#: Weights that run code when they are read.
_PICKLES = ("*.bin", "*.pt", "*.pth")
#: Of a file: one that is no longer than all samples together is read whole.
_SAMPLES = 256
_SAMPLE_BYTES = 65_536


def is_folder(name: str) -> bool:
    """Whether a model is named as a path: ``./x``, ``../x``, ``/x`` or ``~/x``."""
    return name.startswith(("./", "../", "/", "~"))


def read_folder(name: str, weights: str) -> ModelSpec:
    """Return the model of a folder; `weights` is random, real, or auto (real if there are any).

    Raises ConfigError where the folder or its ``config.json`` is missing or broken.
    """
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"model {name}: no such folder")
    files = sorted(set(folder.glob("*.safetensors")) - set(folder.glob("adapter_model*")))
    if weights != "random" and not files and (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"model {name}: an adapter alone is no model: merge it into its base "
            "(`merge_and_unload` of peft) and save that"
        )
    file = folder / "config.json"
    architecture = complete(read_config(file, f"model {name}"), f"model {name}: {file}")
    if weights != "random":
        _require_shards(folder, files, f"model {name}")
    if weights == "real" and not files:
        raise ConfigError(f"model {name}: weights=real, but the folder holds no *.safetensors")
    if weights == "auto" and not files and _pickles(folder):
        raise ConfigError(
            f"model {name}: its weights are pickles, which are never loaded: convert them to "
            "safetensors, or write weights=random"
        )
    if weights == "random" or not files:
        return ModelSpec(name=folder.name, weights=Weights.RANDOM, architecture=architecture)
    for file in files:
        _require_whole(file, f"model {name}")
    return ModelSpec(
        name=folder.name,
        weights=Weights.REAL,
        architecture=architecture,
        commit=_fingerprint(folder, files),
        folder=str(folder),
    )


def read_config(file: Path, where: str) -> Architecture:
    """Return the content of a ``config.json`` without what says nothing about the model."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{where}: {file} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {file} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {file} is not JSON: {error}") from error
    return plain(content, f"{where}: {file}")


def plain(content: object, where: str) -> Architecture:
    """Return an architecture as scalars and tuples; of several kinds of input, the text part.

    Raises ConfigError for other nesting and for sizes that are none.
    """
    if isinstance(content, dict) and isinstance(content.get("text_config"), dict):
        tied = {k: v for k, v in content.items() if k == "tie_word_embeddings"}
        content = {**tied, **content["text_config"]}
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise ConfigError(f"{where} names no model_type")
    found: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for key, value in content.items():
        if key in _IGNORED:
            continue
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str | int | float) for item in items):
            raise ConfigError(f"{where}: {key} is nested; only flat text models are supported")
        if key in SIZES and not _is_size(value):
            raise ConfigError(f"{where}: {key} is {value!r}, not a whole number from 1 up")
        found[str(key)] = tuple(value) if isinstance(value, list) else value
    return found


def complete(architecture: Architecture, where: str) -> Architecture:
    """Return an architecture that states what its family needs, in sizes that go together.

    Raises ConfigError for a family that is not known, keys that are missing, sizes at odds.
    """
    config = Config(architecture)
    if not config.known:
        known = ", ".join(sorted(FAMILIES))
        raise ConfigError(f"{where}: model_type {config.kind} is not supported; supported: {known}")
    if missing := lacking(config):
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    if odd := impossible(config):
        raise ConfigError(f"{where}: {odd}")
    return architecture


def _is_size(value: object) -> bool:
    """Whether a size is one, is one per layer, or is left to the family's default."""
    sizes = value if isinstance(value, list) else [1 if value is None else value]
    return all(type(size) is int and size > 0 for size in sizes)


def _pickles(folder: Path) -> bool:
    """Whether weights lie here in a form that runs code when it is read."""
    return any(any(folder.glob(form)) for form in _PICKLES)


def _require_shards(folder: Path, files: list[Path], where: str) -> None:
    """Raise ConfigError where an index names files that are not here; one file needs no index."""
    index, names = folder / "model.safetensors.index.json", {file.name for file in files}
    if "model.safetensors" in names or not index.is_file():
        return
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        named = {str(file) for file in content["weight_map"].values()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ConfigError(f"{where}: {index} cannot be read: {error!r}") from error
    if missing := sorted(named - names):
        raise ConfigError(
            f"{where}: {len(missing)} of {len(named)} files of {index.name} are missing, such as "
            f"{missing[0]}: copy them, or write weights=random"
        )


def _require_whole(file: Path, where: str) -> None:
    """Raise ConfigError unless a safetensors file is as long as its header says; reads no more.

    The header is its length in 8 bytes, little endian, then JSON: tensor -> data_offsets in bytes.
    """
    end, length, size = -1, 0, 0
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 8 + length <= size else {}
        tensors = (entry for name, entry in header.items() if name != "__metadata__")
        end = max((entry["data_offsets"][1] for entry in tensors), default=-1)
    except OSError as error:
        raise ConfigError(f"{where}: {file} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, LookupError, TypeError):
        pass  # no header of this form: told below, as is one that promises more than there is
    if end < 0 or 8 + length + end != size:
        raise ConfigError(
            f"{where}: {file} is cut short or no safetensors file: copy it again, or write "
            "weights=random"
        )


def _fingerprint(folder: Path, files: list[Path]) -> str:
    """Return a digest of the weights: names, sizes, headers and samples spread over each file.

    Stands for the commit that a local folder does not have; reading whole files takes minutes.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            count = min(_SAMPLES, -(-size // _SAMPLE_BYTES))
            for sample in range(count):
                last = max(size - _SAMPLE_BYTES, 0)
                stream.seek(last * sample // max(count - 1, 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return f"sampled-{digest.hexdigest()[:40]}"
