"""Every command and every snippet of the README and of docs/ is run, in the order of its page.

In one home, with a simulated campaign in its store and a few files of a reader's own. What cannot
run here stands in NOT_HERE; a campaign of it is planned in its place, and all of it is parsed by
tests/unit/test_docs_commands.py.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from campaign.cli import main
from campaign.storeroom import place
from db.embedded import EmbeddedPostgres
from tests.conftest import Program, end_processes_below
from tests.nvml.curve import StandinGpu, write_config
from tests.unit.test_docs_commands import DOCUMENTS, FENCED, PROMPT, lines

pytestmark = [pytest.mark.store, pytest.mark.ray]

ROOT = Path(__file__).resolve().parents[2]
#: What cannot run here and why, by what stands in the line; the first that fits counts.
NOT_HERE = {
    r"OWNER/MODEL|^campaign fetch ": "a network",
    r"^campaign analyze (workload|claims) .*azure-": "a trace that the network brings",
    r"^campaign analyze interactions$": "a campaign of real engines' options",
    r"^make run$": "installs, and measures with real engines for minutes",
    r"^campaign run (?!\+grid=simulated)": "real engines, or another board: planned instead",
    r"^campaign doctor --cluster|^(createdb|psql|ray|kubectl|sbatch|head=|for) ?": "a cluster",
}
#: Exit codes other than 0 that are right here.
CODES = {
    r"^campaign doctor$": (0, 3),  # 3: no board to measure on
    r"^campaign retry .*--gate interval_wide": (2,),  # no row of this campaign is marked so
}
#: What is added to a line that would take minutes.
SHORTER = {
    r"^campaign analyze predictor": ["--repeats", "1", "--folds", "2", "--regressors", "linear"]
}
#: Libraries of a snippet that this program does not bring.
NOT_OURS = ("duckdb", "polars")
#: Another server than this home's.
ELSEWHERE = re.compile(r"postgresql\+psycopg://campaign\w*@db\.example/campaign(\?[\w=-]+)?")
#: The campaigns that the pages speak of, all of the same simulated tasks.
MEASURED = (
    "+grid=simulated", "blocks.lengths.workload.input_tokens=[128,512,2048]",
    "blocks.lengths.workload.output_tokens=[32,128,256]",
)  # fmt: skip
NAMES = ("sweet_spots", "quickstart", "mine", "energy_considerations.lengths",
         "energy_considerations")  # fmt: skip
#: The reader's own files.
ARCHITECTURE = '{"model_type": "gpt2", "n_embd": 256, "n_layer": 4, "n_head": 8, "vocab_size": 999}'
FILES = {
    "train.py": "sum(range(10**7))\n",
    "my-model/config.json": ARCHITECTURE,
    "my.yaml": f"models: {{acme/small: {{architecture: {ARCHITECTURE}}}}}\n",
    "runs.csv": "\n".join(
        ["batch,graphs,replicate,joules"]
        + [f"{batch},{graphs},{n},{9 / batch + graphs + n / 10}"
           for batch, graphs, n in itertools.product((1, 8), (0, 1), (0, 1))]
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """A line that is run: its words, what is typed to it then, and what the page shows of it."""

    words: tuple[str, ...]
    typed: str = ""
    shown: str = ""

    @property
    def line(self) -> str:
        return " ".join(self.words)

    @property
    def absent(self) -> str | None:
        """The entry of NOT_HERE that it falls under."""
        return next((known for known in NOT_HERE if re.search(known, self.line)), None)


def steps(text: str) -> Iterator[Step | str]:
    """Yield the command lines of a page, and its Python (as text), in order."""
    for kind, body in FENCED.findall(text):
        if kind in ("python", "pycon"):
            yield body
        elif kind in ("console", "bash", "sh"):
            found = list(lines(body, prompted=kind == "console"))
            rest = [one.strip() for one in body.splitlines() if not PROMPT.match(one)]
            typed = [one.partition("=> ")[2] for one in rest if one.startswith("campaign=> ")]
            alone = kind == "console" and len(found) == 1 and not typed
            for first, *words in found:
                program = first.removeprefix(".venv/bin/")
                shown = "\n".join(rest) if alone and "\\\n" not in body else ""
                yield Step((program, *words), "\n".join(typed), shown)


PAGES = {
    str(path.relative_to(ROOT)): list(steps(path.read_text(encoding="utf-8"))) for path in DOCUMENTS
}
TYPED = [step for page in PAGES.values() for step in page if isinstance(step, Step)]


@pytest.fixture(scope="module")
def home(library: Path) -> Iterator[Path]:
    """A home: campaigns in its store, its server up, a reader's files, a board behind NVML."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-docs-")).resolve()
    folder.chmod(0o755)
    program = Program(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in program.environment.items():
            patch.setenv(name, value)
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("NVML_STANDIN", str(write_config(folder / "boards", [StandinGpu()])))
        patch.chdir(folder)
        with EmbeddedPostgres(place([]).embedded_folder) as server:
            (folder / "measurements").symlink_to(server.folder)
            done = program.run("run", *MEASURED, f"campaign={NAMES[0]}")
            assert done.returncode == 0, done.stderr
            for name in NAMES[1:]:
                settled("run", *MEASURED, f"campaign={name}")
            furnish()
            yield folder
    program.end()
    end_processes_below(folder)
    shutil.rmtree(folder)


def furnish() -> None:
    """Write what the pages take for granted: rows, a trace, a model, imported rows."""
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    settled("export", "--campaign", NAMES[0], "-o", "measured.csv")
    for name in ("rows.csv", "points.csv"):
        shutil.copy("measured.csv", name)
    shutil.copy(ROOT / "tests/data/mlenergy_v3_excerpt.csv", "leaderboard.csv")
    shutil.copy(ROOT / "tests/data/traces/azure_2023_conv_30.csv", "mine.csv")
    for source in ("lab", "mine"):
        settled("import", "measured.csv", "--source", source)


def settled(*words: str) -> str:
    """Run the program in this process, as its entry point does; returns its stdout."""
    return judged(" ".join(("campaign", *words)), *within(words))


def within(words: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as ended:  # --help
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


def beside(words: Sequence[str], library: Path, typed: str = "") -> tuple[int, str, str]:
    """Run a command in a process of its own, which finds the board."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(library)}
    done = subprocess.run(
        words, env=environment, input=typed, text=True, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def judged(line: str, code: int, out: str, err: str) -> str:
    allowed = next((codes for known, codes in CODES.items() if re.search(known, line)), (0,))
    assert code in allowed, f"{line}\n  ended with {code}: {err.strip()[-800:]}"
    return out


def here(words: Sequence[str]) -> list[str]:
    """Return a line's words without the store of another server."""
    return [one for one in words if not (one.startswith("store.url=") and
            (ELSEWHERE.search(one) or one.endswith("...")))]  # fmt: skip


def run(step: Step, library: Path) -> None:
    """Run a line as it stands; AssertionError with what it said where it failed."""
    words, into = here(step.words), None
    if words[0] == "export":
        return  # of the reader's own shell
    if ">" in words:
        *words, _, into = words
    words += next((more for known, more in SHORTER.items() if re.search(known, step.line)), ())
    if words[0] == "campaign" and words[1] != "meter" and not step.typed:
        answer = within(words[1:])
    elif words[0] == "campaign":
        answer = beside([sys.executable, "-m", *words], library, step.typed)
    else:
        answer = beside(words, library)
    out = judged(step.line, *answer)
    assert step.shown in out, f"{step.line}\n  said {out}"
    if into:
        Path(into).write_text(out, encoding="utf-8")


def instead(step: Step) -> None:
    """Plan a campaign that cannot run here: what plans has an engine, a model and a workload."""
    if step.words[:2] == ("campaign", "run") and step.absent != next(iter(NOT_HERE)):
        settled("plan", *here(step.words[2:]))


def evaluate(snippet: str, home: Path, library: Path) -> None:
    """Run a snippet of Python, or a session whose answers it shows."""
    snippet = ELSEWHERE.sub(str(home / "measurements"), snippet)
    if ">>>" in snippet:
        said = io.StringIO()
        session = doctest.DocTestParser().get_doctest(snippet, {}, "snippet", None, 0)
        assert doctest.DocTestRunner().run(session, out=said.write).failed == 0, said.getvalue()
        return
    code, _, err = beside([sys.executable, "-c", STANDING_IN + snippet], library)
    assert code == 0, f"{snippet}\n  ended with {code}: {err.strip()[-800:]}"


#: A library that is not installed answers everything with itself.
STANDING_IN = f"""
import importlib.util, sys
from unittest.mock import MagicMock
for name in {NOT_OURS}:
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = MagicMock()
"""


@pytest.mark.parametrize("page", [page for page, steps in PAGES.items() if steps])
def test_a_page_runs_from_top_to_bottom(page: str, home: Path, library: Path) -> None:
    wrong = []
    for step in PAGES[page]:
        try:
            if isinstance(step, str):
                evaluate(step, home, library)
            elif step.absent is None:
                run(step, library)
            else:
                instead(step)
        except AssertionError as error:
            wrong.append(str(error))
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize("known", [*NOT_HERE, *CODES, *SHORTER])
def test_no_exception_is_left_of_a_line_that_is_gone(known: str) -> None:
    if known in NOT_HERE:
        assert known in {step.absent for step in TYPED}
    else:
        assert any(re.search(known, step.line) for step in TYPED)


def test_most_of_what_the_pages_say_is_run() -> None:
    there = [step for step in TYPED if step.absent is None]
    assert len(there) > len(TYPED) / 2
    assert {step.words[1] for step in there if step.words[0] == "campaign"} >= {
        "analyze", "catalog", "check", "db", "doctor", "estimate", "export", "import", "meter",
        "plan", "predict", "query", "report", "retry", "run", "status",
    }  # fmt: skip


def test_a_command_stands_in_a_block_that_says_it_is_one() -> None:
    for path in DOCUMENTS:
        for kind, body in FENCED.findall(path.read_text(encoding="utf-8")):
            assert kind or not re.match(r"(\$ )?(campaign|make|python) ", body), f"{path}: {body}"
