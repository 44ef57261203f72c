"""Import and export through the command line: what others measured beside the store's own."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

import campaign
from campaign.analysis.columns import COLUMNS
from campaign.analysis.own import described
from campaign.analysis.rows import RowsRead, read_rows, stored_rows
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from campaign.verbs.importing import _rows
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError
from db.external import sources, write_external
from db.store import Store
from tests.store.filled import Filled, filled
from tests.store.world import ground

pytestmark = pytest.mark.store

EXCERPT = Path(__file__).resolve().parents[1] / "data" / "mlenergy_v3_excerpt.csv"
MAPPED = (str(EXCERPT), "--source", "mlenergy", "--map", "mlenergy_v3")


@pytest.fixture(scope="module")
def mine(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    """A store that measured."""
    with filled(embedded_store, "exporting") as found:
        yield found


@pytest.fixture
def other(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    """A store of somebody else, with nothing in it."""
    with ground(embedded_store, "importing") as store:
        yield store


def here(store: Store) -> str:
    return f"store.url='{store.url}'"


def count(store: Store, relation: str) -> int:
    with store.begin() as connection:
        return int(connection.exec_driver_sql(f"select count(*) from {relation}").scalar_one())


# ---- import ----------------------------------------------------------------------------------


def test_every_row_comes_in_once_however_often_it_is_imported(
    other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for imported in (30, 0):
        assert main(["import", *MAPPED, "--json", here(other)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["rows"], said["imported"], said["bad"]) == (30, imported, [])
    assert said["rows_with_architecture"] == 28
    assert [name.rpartition("/")[2] for name in said["models_without_architecture"]] == [
        "Qwen3-Coder-480B-A35B-Instruct", "Qwen3-Coder-480B-A35B-Instruct-FP8",
    ]  # fmt: skip
    with other.begin() as connection:
        assert sources(connection) == {"mlenergy": 30}


def test_two_sources_may_say_the_same(other: Store) -> None:
    for source in ("one", "two"):
        assert main(["import", str(EXCERPT), "--source", source, "--map", "mlenergy_v3",
                     here(other)]) == 0  # fmt: skip
    assert count(other, "external_rows") == 60


def test_a_dry_run_writes_nothing(other: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *MAPPED, "--dry-run", "--json", here(other)]) == 0
    assert json.loads(capsys.readouterr().out)["imported"] is None
    assert count(other, "external_rows") == 0


def test_a_bad_row_keeps_all_out_unless_it_is_left_out(
    other: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("model,board,energy_j\na,t4,5\nb,t4,0\nc,t4,7\nc,t4,7\n")
    words = ["import", str(file), "--source", "lab", here(other)]
    assert main(words) == 2
    assert f"campaign: {file}: line 3: energy_j '0' is out of range" in capsys.readouterr().err
    assert count(other, "external_rows") == 0
    assert main([*words, "--skip-bad", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["imported"], said["repeated"]) == (3, 2, 1)
    assert [bad["line"] for bad in said["bad"]] == [3]


def test_rows_go_in_together_or_not_at_all(other: Store) -> None:
    with other.begin() as connection:
        connection.exec_driver_sql("alter table external_rows add check (model <> 'x')")
    frame = read_rows(EXCERPT, mapping="mlenergy_v3")
    frame.loc[1, "model"] = "x"
    found = list(_rows(EXCERPT, "lab", RowsRead(frame=frame, lines=range(30), bad={})))
    with pytest.raises(IntegrityError):
        other.retrying(lambda connection: write_external(connection, found))
    assert count(other, "external_rows") == 0


WORDS = {
    "no source": ["x.csv"],
    "no file": ["--source", "a"],
    "two files": ["x.csv", "y.csv", "--source", "a"],
    "a name with spaces": ["x.csv", "--source", "a b"],
    "a file that is not there": ["none.csv", "--source", "a"],
}


@pytest.mark.parametrize("name", WORDS)
def test_wrong_words_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *WORDS[name]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [MAPPED, ("--remove", "lab", "--confirm", "lab")])
def test_a_login_that_only_reads_is_told_so_at_once(
    words: Sequence[str], other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the words of a server that refuses to write, which would be tried again."""
    url = make_url(other.url)
    options = f"{url.query['options']} -cdefault_transaction_read_only=on"
    reader = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    assert main(["import", *words, f"store.url='{reader}'"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the login only reads; name its primary, or another login, in store.url" in said
    assert count(other, "external_rows") == 0


# ---- what people ask -------------------------------------------------------------------------


def test_imported_rows_enter_no_comparison_and_come_only_when_their_source_is_named(
    other: Store,
) -> None:
    assert main(["import", *MAPPED, here(other)]) == 0
    for view in ("measurements", "comparable", "energy_per_output_token", "energy_per_prompt"):
        assert count(other, view) == 0
    assert stored_rows(other).empty
    found = stored_rows(other, source="*")
    assert set(found["reality"]) == set(found["origin_reality"]) == {"external"}
    assert set(found["source"]) == {"mlenergy"}
    assert stored_rows(other, source="mlenergy", reality=["real"]).empty
    with pytest.raises(ConfigError, match="did you mean mlenergy"):
        stored_rows(other, source="mlenergi")
    with pytest.raises(ConfigError, match="no campaign is called x"):
        stored_rows(other, campaign="x", source="*")


def test_own_rows_say_what_ran_and_what_was_measured(mine: Filled) -> None:
    frame = stored_rows(mine.store, campaign="quickstart").set_index("board")
    assert len(frame) == 6
    row = frame.loc["a100-sxm-80gb"]
    assert (row["reality"], row["energy_j"], row["power_w"]) == ("real", 16.0, 8.0)
    assert (row["energy_j_per_output_token"], row["energy_j_per_request"]) == (2.0, 16.0)
    assert (row["mean_output_tokens"], row["requests"], row["repeats"]) == (8.0, 1.0, 1.0)
    assert (row["campaign"], row["weights"]) == ("quickstart", "real")
    assert (row["backend_version"], row["protocol"]) == ("1.0", "quick")
    estimated = frame.loc["cpu:x:2"]
    assert estimated.isna()["energy_j"]
    assert (estimated["energy_estimated_j"], estimated["reasons"]) == (7.0, "no_energy")
    assert set(frame.loc["rtx-a6000", "reality"]) == {"simulated"}
    assert len(stored_rows(mine.store, reality=["real"])) == 2
    assert stored_rows(mine.store, campaign="empty").empty
    assert stored_rows(mine.store, source="*").empty


def test_parameters_are_those_of_the_architecture_that_was_measured() -> None:
    found = load_catalog().model("Qwen/Qwen3-30B-A3B", "random")
    rows = [{"model": "any", "config": dict(found.architecture)}, {"model": "any", "config": {}}]
    known, unknown = described(rows)
    assert known["architecture"] == "moe"
    assert known["total_params_b"] == pytest.approx(30.53, rel=1e-3)
    assert known["active_params_b"] == pytest.approx(3.35, rel=1e-2)
    assert "architecture" not in unknown


def test_read_gives_the_rows_of_a_store(mine: Filled) -> None:
    frame = campaign.read("quickstart", store=mine.store.url, reality="simulated")
    assert frame["energy_j"].tolist() == [33.0, 36.0, 39.0, 42.0]
    with pytest.raises(ConfigError, match="no reality is called reel; did you mean real"):
        campaign.read("quickstart", store=mine.store.url, reality="reel")
    with pytest.raises(ConfigError, match="there is no store"):
        campaign.read(store="/nowhere")


def test_a_source_named_twice_is_taken_out_again_and_no_other(
    other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in ("lab", "labs"):
        assert main(["import", str(EXCERPT), "--source", source, "--map", "mlenergy_v3",
                     here(other)]) == 0  # fmt: skip
    for words, told in (
        (["--remove", "lab"], "30 rows would go for good, nothing was done"),
        (["--remove", "lab", "--confirm", "labs"], "say --remove lab --confirm lab"),
        (["--remove", "la", "--confirm", "la"], "no imported source is called so"),
        (["--remove", "lab", "--confirm", "lab", str(EXCERPT)], "and nothing else"),
    ):
        capsys.readouterr()
        assert main(["import", *words, here(other)]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.count("\n") == 1
    assert count(other, "external_rows") == 60
    assert main(["import", "--remove", "lab", "--confirm", "lab", here(other)]) == 0
    assert "lab: 30 rows removed" in capsys.readouterr().err
    with other.begin() as connection:
        assert sources(connection) == {"labs": 30}


def test_a_precision_that_a_mapping_does_not_know_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    lines = EXCERPT.read_text(encoding="utf-8").splitlines()
    at = next(n for n, line in enumerate(lines) if ",fp8," in line)
    lines[at] = lines[at].replace(",fp8,", ",nvfp4,")
    file.write_text("\n".join(lines), encoding="utf-8")
    assert main(["import", str(file), "--source", "lab", "--map", "mlenergy_v3", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert f"line {at + 1}: weight_precision 'nvfp4' is in no value of the mapping" in said
    assert said.count("nvfp4") == 1


# ---- export ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_exported_campaign_is_imported_elsewhere_as_the_same_rows(
    mine: Filled, other: Store, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"rows.{suffix}"
    out = ["export", "--campaign", "quickstart", "-o", str(file), here(mine.store)]
    assert main(out) == 0
    assert main(["import", str(file), "--source", "lab", here(other)]) == 0
    assert main(["import", str(file), "--source", "lab", here(other)]) == 0
    own = stored_rows(mine.store, campaign="quickstart")
    theirs = stored_rows(other, source="lab")
    assert set(theirs["reality"]) == {"external"}
    assert theirs["origin_reality"].tolist() == own["origin_reality"].tolist()
    same = [c.name for c in COLUMNS if c.name not in ("reality", "source")]
    assert theirs[same].equals(own[same])
    assert own["task_key"].notna().all()
    assert own["gpu_ids"].str.fullmatch("[0-9a-f]{64}").all()
    # Once more: what was simulated stays known as simulated, two imports away.
    again = tmp_path / f"again.{suffix}"
    assert main(["export", "--source", "lab", "-o", str(again), here(other)]) == 0
    back = read_rows(again)
    assert back["reality"].tolist() == own["reality"].tolist()
    assert set(back["source"]) == {"lab"}


def test_an_export_holds_no_host_user_path_or_uuid(
    mine: Filled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    assert main(["export", "-o", str(file), "--json", here(mine.store)]) == 0
    said = json.loads(capsys.readouterr().out)
    text = file.read_text() + Path(said["dictionary"]).read_text()
    session = str(mine.simulated)
    owner = "me"
    for secret in (socket.gethostname(), owner, "elsewhere", "GPU-1", session, "another boot"):
        assert not re.search(rf"\b{re.escape(secret)}\b", text), secret
    assert str(Path.home()) not in text


def test_the_dictionary_says_where_the_rows_come_from(mine: Filled, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    assert main(["export", "-o", str(file), here(mine.store)]) == 0
    said = (tmp_path / "rows.csv.dictionary.md").read_text()
    for line in ("| reality | simulated | 4 |", "| reality | real | 2 |",
                 "| protocol | quick | 6 |", "| `energy_j` | number | joules |"):  # fmt: skip
        assert line in said


def test_nothing_to_write_writes_nothing(mine: Filled, tmp_path: Path) -> None:
    file = str(tmp_path / "rows.csv")
    for words in (["--campaign", "empty"], ["--campaign", "nope"], ["--source", "nope"],
                  ["--campaign", "quickstart", "--reality", "external"]):  # fmt: skip
        assert main(["export", *words, "-o", file, here(mine.store)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_refused_before_the_store_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "store.url=postgresql+psycopg://nobody@127.0.0.1:1/none"
    assert main(["export", "-o", str(tmp_path / "none" / "rows.csv"), nowhere]) == 2
    assert "cannot be written" in capsys.readouterr().err
