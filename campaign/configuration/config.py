"""From the command line to `Settings`: compose, type and check, with every problem at once.

The only module that imports Hydra and OmegaConf, and only inside a function. Foreign exceptions
become ConfigError here. Starts nothing and asks nobody: bad input is answered from files alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from campaign.configuration.overrides import CONF, Overrides, folders, parse, refuse
from campaign.configuration.redaction import ADVICE, holds_secret, redact, refuse_secrets
from campaign.configuration.settings import Settings
from campaign.configuration.tree import Tree, leaves, put
from campaign.configuration.unions import compose_each
from campaign.configuration.validate import validate
from db.errors import ConfigError

NO_MAPPING = "holds no `KEY: VALUE`"


def load(overrides: Sequence[str]) -> Settings:
    """Return the settings of a command line.

    Raises ConfigError with one line per problem: what, where, how to fix it.
    """
    refuse_secrets(overrides)
    given = parse(overrides)
    refuse(given)
    conf = folders(overrides)
    tree = _compose(given, conf)
    chosen = _chosen(given, conf)
    pinned = frozenset(chosen) | {key for key in given.keys if not key.startswith("blocks")}
    secrets = [f"{path}: {ADVICE}" for path, value in leaves(tree) if _is_secret(value)]
    if secrets:
        raise ConfigError("\n".join(secrets))
    return validate(tree, pinned=pinned, given=given.keys, resolved=_text(tree))


def _compose(given: Overrides, conf: Sequence[Path]) -> Tree:
    """Return the composed configuration; of several grids, the union of their blocks."""

    def composed(words: Sequence[str]) -> Tree:
        tree = _composed(given, words, conf)
        chosen = _chosen(given, conf)
        for key in chosen.keys() - given.keys:
            put(tree, key, chosen[key])
        return tree

    grids = given.choices.get("grid", ())
    return compose_each(given.hydra, grids, composed) if len(grids) > 1 else composed(given.hydra)


def _composed(given: Overrides, words: Sequence[str], conf: Sequence[Path]) -> Tree:
    """Return what Hydra composes as plain mappings, lists and scalars."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="campaign"):
            composed = compose("config", overrides=list(words))
        tree = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_explained(given, error)) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(_unreadable(_files(given, conf), error)) from error
    assert isinstance(tree, dict)  # noqa: S101 - the root of a configuration is a mapping
    if "grid" in tree:  # where Hydra puts the content of a file that does not say where
        named = next((w[1:].replace("'", "") for w in words if w.startswith("+grid=")), "grid")
        raise ConfigError(f"{named}: the first line of a grid's file must be: # @package _global_")
    return {str(key): value for key, value in tree.items()}


def _explained(given: Overrides, error: Exception) -> str:
    """Return one line for an error of the composition, naming the override it is about."""
    said = str(error) or str(error.__cause__ or type(error).__name__)
    message = redact(" ".join(said.partition("See https")[0].split()))
    broken = getattr(error, "override", None)
    for override in given.hydra:
        key, _, value = override.lstrip("+").partition("=")
        if override.lstrip("+") in message and "multirun" in message:
            return f"{key}: {value!r} is not one value; for an axis write {key}=[{value}]"
        if override == broken:
            if any(value.count(a) != value.count(b) for a, b in ("[]", "{}", "()")):
                return f"{key}: {value!r} cannot be read; a bracket is missing"
            if value.startswith(("[", "{")):
                return f"{key}: {value!r} cannot be read; put each name in quotes: ['a','b']"
            quoted = value.replace("'", "")
            return f"{key}: {value!r} cannot be read; quote it: \"{key}='{quoted}'\""
    return f"configuration: {message[:300]}"


def _files(given: Overrides, conf: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the group and the file of every option that the command line chooses."""
    for group, names in given.choices.items():
        for name in names:
            files = (folder / group / f"{name}.yaml" for folder in conf)
            yield group, next(f for f in files if f.is_file())


def _unreadable(files: Iterable[tuple[str, Path]], error: Exception) -> str:
    """Return one line for an error of reading, naming the chosen file it is in."""
    import yaml

    for _, file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as why:
            return f"{file}: cannot be read: {why}"
        if content is not None and not isinstance(content, dict):
            return f"{file}: {NO_MAPPING}"
    if isinstance(error, RecursionError):
        return "configuration: a list or mapping holds itself (an anchor `&` inside its own value)"
    return f"configuration: {error}"


def _chosen(given: Overrides, conf: Sequence[Path]) -> dict[str, object]:
    """Return the values of the groups chosen on the command line: they win over a grid's own."""
    import yaml

    values: dict[str, object] = {}
    meters: list[object] = []
    for group, found in _files(given, conf):
        if group == "grid":
            continue
        content = yaml.safe_load(found.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise ConfigError(f"{found}: {NO_MAPPING}")
        content.pop("defaults", None)
        values |= dict(leaves(content, f"{group}."))
        listed = content.get("names", []) if group == "meter" else []
        meters += listed if isinstance(listed, list) else [listed]
    if "engine" in given.choices:
        values = {k: v for k, v in values.items() if not k.startswith("engine.options.")}
        values["engine.backend"] = list(given.choices["engine"])
    if meters:
        values["meter.names"] = meters  # those of every option, where Hydra keeps the last one's
    return {k: v for k, v in values.items() if v != "???" and "${" not in str(v)}


def _is_secret(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(v, str) and holds_secret(v) for v in values)


def _text(tree: Tree) -> str:
    import yaml

    return redact(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
