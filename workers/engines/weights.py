"""The folder an engine loads: config.json, safetensors, tokenizer; found, fetched or drawn.

Random weights are drawn by transformers' own initialisation of the architecture under a fixed
seed, once per architecture and dtype, on the GPU where there is one that holds them. Only
safetensors are read, never pickles; no code that comes with a model is run. A folder appears whole
or not at all. Drawn ones that nobody uses go where there is no room for others.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import EngineFault
from db.identity import digest
from db.records import ModelSpec, Weights
from workers.engines.drawn import make_room, turn, use
from workers.engines.faults import engine_fault, is_disk_full
from workers.engines.quantize import form_of, quantize
from workers.engines.snapshot import disk_full, snapshot
from workers.engines.software import versions
from workers.engines.tokenizer import write_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

log = logging.getLogger("campaign.weights")

#: The seed of every random initialisation.
SEED = 0
PROVENANCE = "campaign.json"
#: Architectures that have another name beside their weights on the hub, which vLLM knows them by.
ON_THE_HUB = {"PhimoeForCausalLM": "PhiMoEForCausalLM"}
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def materialize(model: ModelSpec, dtype: str, cache: Path, quantization: str | None = None) -> Path:
    """Return the absolute folder of a model's weights; builds or fetches them on first use.

    Random ones are written in the form that a method of quantized weights reads. Raises
    EngineFault: ``missing_weights`` where they cannot be had, ``disk_full``, ``unsupported`` for
    an architecture the library does not know.
    """
    if model.weights is Weights.RANDOM:
        return _random(model, dtype, cache, form_of(quantization))
    if model.folder is not None:
        return _checked(Path(model.folder).absolute(), model.name)
    return _fetched(model)


def vocabulary(folder: Path) -> int:
    """Return how many ids of a model prompts may draw from: those below its last special ids."""
    size = _json(folder / "config.json").get("vocab_size")
    if not isinstance(size, int) or size < 2:  # noqa: PLR2004
        raise EngineFault("unsupported", f"{folder}/config.json: no vocab_size", permanent=True)
    added: object = None
    if (folder / "tokenizer_config.json").exists():
        added = _json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    ids = [int(token) for token in added] if isinstance(added, dict) else []
    return min([size, *(token for token in ids if token >= size // 2)])


def config_of(folder: Path) -> dict[str, object]:
    """Return the content of a model folder's config.json."""
    return _json(folder / "config.json")


# ---- real ------------------------------------------------------------------------------------


def _checked(folder: Path, name: str) -> Path:
    """Return a local folder that holds what engines read. Raises EngineFault."""
    if not folder.is_dir():
        raise _missing(f"{name}: no folder {folder}")
    _json(folder / "config.json")
    if not list(folder.glob("*.safetensors")):
        pickles = "; its *.bin are pickles, which are never loaded: convert them to safetensors"
        hint = pickles if list(folder.glob("*.bin")) else ""
        raise _missing(f"{name}: no *.safetensors in {folder}{hint}")
    return folder


def _fetched(model: ModelSpec) -> Path:
    """Return the local snapshot of a hub repository at its commit, fetched if need be."""
    if model.commit is None:
        message = f"{model.name}: its commit on the hub is not known; run the campaign again"
        raise _missing(f"{message}, which asks the hub")
    return _checked(snapshot(model.name, model.commit).absolute(), model.name)


# ---- random ----------------------------------------------------------------------------------


def _random(model: ModelSpec, dtype: str, cache: Path, form: str | None) -> Path:
    """Return the folder of randomly drawn weights; one process of the host draws them."""
    identity = {"architecture": model.architecture, "dtype": dtype, "seed": SEED}
    identity |= {} if drawn_on() == "cpu" else {"drawn_on": drawn_on()}  # another generator's
    plain = _random(model, dtype, cache, None) if form is not None else None
    identity |= {"quantization": form} if form is not None else {}
    folder = cache.absolute() / f"random-{digest(identity)[:20]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        while not use(folder):
            with turn(folder):
                if not folder.is_dir():
                    _draw(model, dtype, folder, plain, form)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder) from error
        raise engine_fault(error, f"writing the weights of {model.name}") from error
    return folder


def _draw(model: ModelSpec, dtype: str, folder: Path, plain: Path | None, form: str | None) -> None:
    """Write a model, or what `plain` holds quantized, beside its folder; rename it, locked."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed while writing
    try:
        if plain is not None and form is not None:
            partial.mkdir()
            make_room(partial, sum(file.stat().st_size for file in plain.iterdir()))
            quantize(plain, partial, form)
            partial.rename(folder)
            return
        drawn = _initialised(model, dtype)
        partial.mkdir()
        _refuse_small_disk(partial, drawn)
        drawn.save_pretrained(partial)
        _name_as_hub(partial / "config.json")
        words = write_tokenizer(partial, int(drawn.config.vocab_size))
        told = _provenance(model, dtype, drawn.device.type, words)
        (partial / PROVENANCE).write_text(told)
        partial.rename(folder)
        del drawn
        _give_back()
    except (EngineFault, OSError):
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(folder) from error
        raise engine_fault(error, f"initialising {model.name}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name_as_hub(file: Path) -> None:
    """Have a config.json name its architecture as the one beside the weights on the hub does."""
    told = _json(file)
    names = told.get("architectures")
    if isinstance(names, list) and not ON_THE_HUB.keys().isdisjoint(names):
        told["architectures"] = [ON_THE_HUB.get(name, name) for name in names]
        file.write_text(json.dumps(told, indent=2), encoding="utf-8")


def _refuse_small_disk(folder: Path, model: PreTrainedModel) -> None:
    """Raise EngineFault before anything is written that will not fit, once others made room."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if not make_room(folder, size):
        raise disk_full(f"{folder.stem} ({size / 1e9:.1f} GB)")


def drawn_on() -> str:
    """Return the device that weights are drawn on, if they fit: a processor takes minutes."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _give_back() -> None:
    """Return the GPU's memory that weights were drawn in; the engine is to have all of it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _initialised(model: ModelSpec, dtype: str) -> PreTrainedModel:
    """Return a model as transformers initialises it, on the GPU if it fits on one."""
    import torch
    from transformers import AutoConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    fields: dict[str, Any] = {k: v for k, v in model.architecture.items() if k != "architectures"}
    family = fields.pop("model_type", None)
    config = AutoConfig.for_model(family, **fields)
    for name in _SPECIAL:  # a family's own default may lie outside a smaller vocabulary
        token = getattr(config, name, None)
        if isinstance(token, int) and token >= config.vocab_size:
            setattr(config, name, None)
    if drawn_on() != "cpu":
        try:
            return _drawn(config, dtype, drawn_on())
        except torch.OutOfMemoryError as error:  # a model for several boards
            log.info("drawn_on_cpu model=%s %s", model.name, " ".join(str(error).split()))
        _give_back()
    return _drawn(config, dtype, "cpu")


def _drawn(config: PreTrainedConfig, dtype: str, device: str) -> PreTrainedModel:
    """Return a model drawn on a device, without touching the caller's generators."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[] if device == "cpu" else [0]), torch.device(device):
        torch.manual_seed(SEED)
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), trust_remote_code=False
        )


def _provenance(model: ModelSpec, dtype: str, device: str, tokenizer: int | None) -> str:
    return json.dumps(
        {
            "weights": "random",
            "initialisation": "transformers from_config",
            "seed": SEED,
            "drawn_on": device,
            "dtype": dtype,
            "architecture": dict(model.architecture),
            "tokenizer_vocabulary": tokenizer,
            "software": versions("torch", "transformers", "tokenizers", "safetensors"),
        },
        indent=1,
    )


# ---- errors ----------------------------------------------------------------------------------


def _json(file: Path) -> dict[str, object]:
    """Return a JSON object. Raises EngineFault ``missing_weights`` where it is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _missing(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise _missing(f"{file}: not a JSON object")
    return content


def _missing(message: str) -> EngineFault:
    return EngineFault("missing_weights", message, permanent=True)
