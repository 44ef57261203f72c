"""Reading traces: every format that is out there, and what is counted or refused."""

from __future__ import annotations

import datetime as dt
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ConfigError
from workers.workloads.tracelines import Columns, Lines, columns_of, parse
from workers.workloads.traces import MOST_TOKENS, Trace, read_trace, without_any

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
FIRST = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - as a trace writes it
LAST = dt.datetime(2199, 12, 31)  # noqa: DTZ001
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def read(folder: Path, *lines: str, end: str = "\n") -> Trace:
    path = folder / "t.csv"
    path.write_bytes(end.join(lines).encode())
    return read_trace(path)


def rows(trace: Trace) -> list[tuple[float, int, int]]:
    return list(zip(trace.times_s, trace.input_tokens, trace.output_tokens, strict=True))


def unix(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [(), ("",)])
def test_azure_2023_in_either_end_of_line_with_and_without_the_last(
    tmp_path: Path, end: str, last: tuple[str, ...]
) -> None:
    lines = ("2023-11-16 18:17:03.9799600,4808,10", "2023-11-16 18:17:04,3180,8")
    found = read(tmp_path, AZURE, *lines, *last, end=end)
    assert rows(found) == [
        (pytest.approx(unix("2023-11-16T18:17:03.979960"), abs=1e-6), 4808, 10),
        (unix("2023-11-16T18:17:04"), 3180, 8),
    ]
    assert (found.rows, found.dropped) == (2, {})


def test_azure_2024_mixes_times_with_and_without_a_fraction(tmp_path: Path) -> None:
    found = read(
        tmp_path, AZURE,
        "2024-05-12 00:00:00.001163+00:00,2162,5",
        "2024-05-12 00:00:01+00:00,2399,6",
        "2024-02-29T23:59:59.5Z,76,15",
        "2000-03-01 00:00:00,7,8",
    )  # fmt: skip
    assert list(found.times_s) == pytest.approx(
        [unix("2024-05-12T00:00:00.001163"), unix("2024-05-12T00:00:01"),
         unix("2024-02-29T23:59:59.500"), unix("2000-03-01T00:00:00")], abs=1e-6,
    )  # fmt: skip
    assert found.dropped == {}


def test_burstgpt_has_seconds_a_model_and_failures(tmp_path: Path) -> None:
    found = read(
        tmp_path, BURST,
        "5,ChatGPT,472,18,490,Conversation log",
        "45.0,ChatGPT,1087,0,1087,API log",
        "118.25,GPT-4,417,276,693,Conversation log",
    )  # fmt: skip
    assert rows(found) == [(5.0, 472, 18), (118.25, 417, 276)]
    assert (found.rows, found.dropped) == (3, {"zero_tokens": 1})


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffGeneratedTokens, timestamp ,x,CONTEXTTOKENS", "7,1.5,?,9")
    assert rows(found) == [(1.5, 9, 7)]


@given(
    st.lists(
        st.tuples(
            st.datetimes(FIRST, LAST),
            st.integers(1, MOST_TOKENS), st.integers(1, MOST_TOKENS),
        ),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_any_date_and_length_is_read_as_python_reads_it(
    wanted: list[tuple[dt.datetime, int, int]],
) -> None:
    block = "".join(f"{at.isoformat(sep=' ')},{i},{o}\n" for at, i, o in wanted).encode()
    found = parse(block, columns_of(AZURE.encode(), "t"))
    assert found.readable.all()
    expected = [at.replace(tzinfo=dt.UTC).timestamp() for at, _, _ in wanted]
    assert list(found.times_s) == pytest.approx(expected, abs=2e-6)
    assert list(found.inputs) == [i for _, i, _ in wanted]
    assert list(found.outputs) == [o for _, _, o in wanted]


WRONG = (
    "2023-11-16 18:17:03,12", "2023-11-16 18:17:03,12,5,7", "2023-11-16 18:17:03,,5",
    "2023-11-16 18:17:03,12.0,5", "2023-11-16 18:17:03,1e3,5", "2023-11-16 18:17:03,a,5",
    "2023-13-16 18:17:03,12,5", "2023-11-32 18:17:03,12,5", "2023-11-16 25:17:03,12,5",
    "2023/11/16 18:17:03,12,5", "2023-11-16 18:17:03.,12,5x", "2023-11-16 18:17:03+02:00,12,5",
    "2023-11-16 18:17:03.12+02:00,12,5", "yesterday,12,5", ",12,5", "-5,12,5", "5.5.5,12,5",
    "nan,12,5", "2023-11-16 18:17,12,5", ",,", '"2023-11-16 18:17:03",12,5', "1,+2,5", "1, 2,5",
    "1,²,5", "1,2,-",
)  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_none_is_counted_and_its_neighbours_are_kept(
    tmp_path: Path, line: str
) -> None:
    good = ["2023-11-16 18:17:03,4808,10"] * 100
    found = read(tmp_path, AZURE, *good, line, *good)
    assert (len(found), found.rows, found.dropped) == (200, 201, {"unreadable": 1})
    assert set(found.input_tokens) == {4808}


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    found = read(tmp_path, AZURE, "", "1,2,3", "", "", "2,2,3", "")
    assert (len(found), found.rows, found.dropped) == (2, 2, {})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "its first line is ''; it must name TIMESTAMP,ContextTokens,GeneratedTokens or"),
        (("time,in,out", "1,2,3"), "its first line is 'time,in,out'; it must name"),
        (("TIMESTAMP,ContextTokens", "1,2"), "it must name"),
        ((AZURE,), "it has a header and no rows"),
        ((AZURE, "", ""), "it has a header and no rows"),
        ((AZURE, "1,2,3", "", "2,-7,3"), "line 4 has -7 tokens, below zero"),
        ((AZURE, "1,2,3", "2,7,10000001"), "line 3 has 10000001 tokens, more than 10,000,000"),
        ((AZURE, "1,99999999999999999999999,1"), "line 2 has 1000000000000000000 tokens, more"),
        ((AZURE, "1,2,3", "what?", "2,2,3"), "1 of 3 lines are unreadable, the first is line 3"),
        ((AZURE, "1,2,0", "2,0,3"), "none of its 2 rows can be used (2 zero_tokens)"),
        (("\x00\xff" * 100,), "it must name"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(
    tmp_path: Path, lines: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as raised:
        read(tmp_path, *lines)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_trace(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_trace(tmp_path)


@pytest.mark.parametrize("block_bytes", [37, 64, 1000])
def test_lines_across_blocks_are_read_whole(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line numbers count on; blocks may be shorter than a line."""
    chance = random.Random(7)
    lines = [f"{n / 8},{chance.randrange(1, 9999)},{chance.randrange(1, 999)}" for n in range(500)]
    whole = read(tmp_path, AZURE, *lines)
    monkeypatch.setattr("workers.workloads.traces.BLOCK_BYTES", block_bytes)
    assert rows(read(tmp_path, AZURE, *lines)) == rows(whole)
    with pytest.raises(ConfigError, match="line 502 has -1"):
        read(tmp_path, AZURE, *lines, "9,-1,1")


def test_a_row_takes_sixteen_bytes(tmp_path: Path) -> None:
    found = read(tmp_path, AZURE, *["1,2,3"] * 1000)
    columns = (found.times_s, found.input_tokens, found.output_tokens)
    assert sum(c.itemsize for c in columns) == 16
    assert sum(len(c) * c.itemsize for c in columns) == 16_000


def test_mosts_that_leave_out_every_request_are_found(tmp_path: Path) -> None:
    """The zero, the negative and the unreadable rows are no requests."""
    lines = (AZURE, "1,500,20", "2,0,1", "3,x,1", "4,-5,1", "5,300,90")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    mosts = [(300, 90), (300, 20), (499, 89), (500, 20), (299, 1000)]
    assert without_any(path, mosts) == [(299, 1000), (300, 20), (499, 89)]


def test_one_request_for_each_most_is_read_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.workloads.traces.BLOCK_BYTES", 64)
    lines = (AZURE, "1,500,20", *["2,900,20"] * 100)
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    taken = 0

    def counted(block: bytes, columns: Columns) -> Lines:
        nonlocal taken
        taken += 1
        return parse(block, columns)

    monkeypatch.setattr("workers.workloads.traces.parse", counted)
    assert without_any(path, [(512, 64), (900, 64)]) == []
    assert taken == 1
    assert without_any(path, [(100, 64)]) == [(100, 64)]
    assert taken > 10
