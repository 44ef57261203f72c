"""Every command of the README and of docs/ is one that this program takes.

Read, in blocks and in sentences: verbs and options by their own parsers, overrides by the loader of
`plan`, named queries, claims, models and boards by name. tests/docs/ runs those in blocks.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from campaign.analysis.claims.claim import load_claims
from campaign.catalogue.catalog import load_catalog
from campaign.cli import CONFIGURED, GROUPS, RUNNERS, VERBS, main
from campaign.configuration.config import load
from campaign.configuration.overrides import parse, refuse
from campaign.configuration.settings import Settings
from campaign.storeroom import split
from db.asking import shipped
from db.errors import ConfigError
from deploy.reference.verbs import parser_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "conf" / "catalog" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "reference"),
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

FENCED = re.compile(r"^ *```(?P<kind>\w*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\s*(?:head|node)?\$ ")
#: What starts a command of ours; what an inline command starts with, besides the name of a verb.
STARTS = (("campaign",), (".venv/bin/campaign",), ("python", "-m", "campaign"))
#: Words that stand for the reader's own.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_/.]*|…|\.\.\.|\[.*\]?|.*\]")
#: What stands in a configuration without changing its grid: not composed again for each.
STORE = re.compile(r"store\.url=|campaign=")
#: Models of the examples' own catalogues and folders.
OWN = ("acme/", "./", "OWNER/")
#: A sentence may name a verb or an option without the arguments it needs.
NOT_WHOLE = ("arguments are required", "expected one argument")
parsers = cache(parser_of)
catalogue = cache(load_catalog)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of ours in a document, in blocks and in sentences."""
    for block in FENCED.finditer(text):
        if block["kind"] in ("console", "bash", "sh"):
            for words in lines(block["body"], prompted=block["kind"] == "console"):
                yield from ours(words)
    yield from mentions(text)


def mentions(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of ours in the sentences of a document."""
    verbs = {*VERBS} - {"import"}  # which is Python's word as well
    for code in re.findall(r"`([^`]+)`", FENCED.sub("", text)):
        words = code.split()
        if len(words) > 1 and (words[0] in verbs or words[0] in ("make", "python", "campaign")):
            words = shlex.split(code)
            yield from alternatives(["campaign", *words] if words[0] in verbs else words)


def lines(body: str, *, prompted: bool) -> Iterator[list[str]]:
    """Yield the words of every command line of a block, continued ones as one."""
    rest = body.splitlines()
    while rest:
        line = rest.pop(0)
        if prompted and not PROMPT.match(line) and not line.strip().startswith("sbatch "):
            continue
        line = PROMPT.sub("", line)
        while rest and (line.endswith("\\") or is_open(line)):
            line = f"{line.removesuffix(chr(92))} {rest.pop(0)}"
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        reader.whitespace_split = True
        yield list(reader)


def is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def ours(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield what of a command line is ours: of a pipe, behind a runner, in a batch script."""
    parts = [list(part) for is_end, part in
             itertools.groupby(words, lambda w: w in ("|", "&&", ";", "&", ">", "<"))
             if not is_end]  # fmt: skip
    for part in parts:
        for at, word in enumerate(part):
            begun = at == 0 or part[at - 1] == "--"
            if word.endswith("campaign.sbatch"):
                yield ["campaign", "run", *part[at + 1 :]]
                break
            if begun and (word == "make" or any(starts(part[at:], start) for start in STARTS)):
                yield part[at:]
                break


def starts(words: Sequence[str], start: Sequence[str]) -> bool:
    return tuple(words[: len(start)]) == tuple(start)


def alternatives(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield every command that ``a|b`` in a sentence stands for."""
    if words[0] == "python" and not starts(words, ("python", "-m", "campaign")):
        return
    for chosen in itertools.product(*(word.split("|") for word in words)):
        yield list(chosen)


def check(words: Sequence[str]) -> None:
    """Raise ConfigError or AssertionError for a command that there is not."""
    if words[0] == "make":
        for word in words[1:]:
            name, assigned, _ = word.partition("=")
            form = rf"\b{name}\b" if assigned else rf"^([a-z ]+ )?{re.escape(word)}:"
            assert re.search(form, MAKEFILE, re.MULTILINE) is not None, f"make has no {word}"
        return
    start = next(start for start in STARTS if starts(words, start))
    verb, *rest = [word for word in words[len(start) :] if word not in ("…", "...")]
    if verb in ("VERB", "--help"):
        return
    rest = rest[: rest.index("--")] if verb in RUNNERS and "--" in rest else rest
    assert verb in VERBS, f"{verb} is no verb"
    title = verb
    if verb in GROUPS and rest and rest[0] in GROUPS[verb]:
        title = f"{verb} {rest.pop(0)}"
    if "--help" in rest:
        return
    given = parsers(title).parse_intermixed_args(rest)
    asked, overrides = split(given.overrides)
    check_words(title, [word for word in asked if not PLACEHOLDER.fullmatch(word)])
    if verb == "catalog":
        assert "fetch" in asked or main([verb, *rest]) == 0
    elif title == "estimate":
        assert given.store or main([verb, *rest]) == 0
    elif overrides or verb in CONFIGURED:
        given = [word for word in overrides if not STORE.match(word)]
        refuse(parse(overrides))
        configured(tuple(given) if verb in CONFIGURED else ())


def check_words(title: str, words: Sequence[str]) -> None:
    """Refuse words that name nothing."""
    if title in CONFIGURED or title in (
        "meter",
        "estimate",
        "report",
        "export",
        "predict",
        "doctor",
    ):
        assert not words, f"{title} takes no words: {words}"
    if title == "analyze":
        assert not words, f"{words[0]} is no analysis"
    if title == "query":
        assert len(words) < 2
        known = (*shipped(), "select", "with")
        assert all(word.split()[0] in known for word in words), f"{words} is no query"
    if title == "db":
        assert all(re.search(rf"[ |]{word}\b", parsers("db").epilog) for word in words[:1])
    if title == "analyze claims":
        assert {*words} <= {claim.id for claim in load_claims()}
    if title in ("fetch", "analyze workload"):
        traces = (ROOT / "conf" / "catalog" / "traces.csv").read_text().splitlines()
        known = {line.partition(",")[0] for line in traces}
        assert all(word in known or word.startswith("./") for word in words), words


@cache
def configured(overrides: Sequence[str]) -> Settings:
    """Compose a command line, and look its models and boards up."""
    settings = load(overrides)
    catalog = catalogue()
    for model in settings.models:
        assert model.startswith(OWN) or catalog.model(model)
    for board in settings.boards:
        assert board == "here" or catalog.board(board)
    return settings


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_document_is_taken(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    mentioned = list(mentions(text))
    wrong = []
    for words in commands(text):
        try:
            check(words)
        except (ConfigError, AssertionError) as error:
            if words in mentioned and any(part in str(error) for part in NOT_WHOLE):
                continue
            wrong.append(f"{shlex.join(words)}: {error}")
    assert wrong == []


def test_commands_are_found_wherever_they_stand() -> None:
    text = """
Ask `campaign query
NAME`, `status --watch` or `catalog models|boards`; `make run`; not `run.deadline`,
nor `python x.py`.

   ```console
   $ campaign run \\
         a=1  # a comment
   campaign said this
   head$ kubectl exec pod -- ray job submit -- campaign plan +grid=full > plan.txt
   $ export A=1; make test && .venv/bin/campaign query "select 1
       from windows"
   ```
"""
    assert [shlex.join(words) for words in commands(text)] == [
        "campaign run a=1",
        "campaign plan +grid=full",
        "make test",
        ".venv/bin/campaign query 'select 1        from windows'",
        "campaign query NAME",
        "campaign status --watch",
        "campaign catalog models",
        "campaign catalog boards",
        "make run",
    ]


def test_there_are_commands_to_check() -> None:
    found = {path.name: list(commands(path.read_text(encoding="utf-8"))) for path in DOCUMENTS}
    assert len(found["tutorial.md"]) > 10
    assert {words[1] for words in itertools.chain(*found.values()) if words[0] != "make"} >= {
        *VERBS
    } - {"-m"}


@pytest.mark.parametrize(
    "command",
    [
        "make everything",
        "make test TESTZ=tests/unit",
        "campaign mesure",
        "campaign plan --lists",
        "campaign plan word",
        "campaign run +grid=quickstar",
        "campaign run workload.batch=1",
        "campaign run workload.batch_size=none",
        "campaign run model=nobody/nothing",
        "campaign run board=h100",
        "campaign status store.urls=x",
        "campaign query energy_by_batches",
        "campaign query failures progress",
        "campaign analyze clams",
        "campaign analyze claims no_such_claim",
        "campaign analyze workload azure-1999",
        "campaign db upgrad",
        "campaign fetch azure-1999",
        "campaign estimate --board l4",
        "campaign estimate --model nobody/nothing --board l4",
        "campaign catalog modles",
        "campaign meter --second 5 -- true",
    ],
)
def test_a_command_that_there_is_not_is_seen(command: str) -> None:
    with pytest.raises((ConfigError, AssertionError)):
        check(command.split())


def test_modules_that_are_run_by_name_exist() -> None:
    for path in DOCUMENTS:
        for module in re.findall(r"python -m ([a-z_.]+)", path.read_text(encoding="utf-8")):
            assert find_spec(module.rstrip(".")), f"{path.name}: {module}"
