"""Lines of a CSV trace as columns of numbers, a block at a time, without a loop over rows. Pure.

A field is read as it stands: digits, a date and time in UTC, or seconds. Quoted fields are not
read. What is not readable is told by its mask, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from db.errors import ConfigError

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Names of a column, in lower case: Azure's, then BurstGPT's.
TIME = ("timestamp",)
INPUT = ("contexttokens", "request tokens")
OUTPUT = ("generatedtokens", "response tokens")
HEADERS = "TIMESTAMP,ContextTokens,GeneratedTokens or Timestamp,Request tokens,Response tokens"

#: More digits are not a number that int64 holds; they stand for `HUGE`.
MOST_DIGITS = 18
HUGE = 10**MOST_DIGITS
DATE_LENGTH = len("2023-11-16 18:15:46")
#: Where a date's punctuation and numbers are: offset of the first digit and how many.
MARKS = ((4, "-"), (7, "-"), (13, ":"), (16, ":"))
PARTS = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of how many hold the time and the lengths, counted from 0."""

    time: int
    input: int
    output: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The lines of a block that are not blank; where not `readable` the numbers mean nothing.

    `lines` counts them from 0 in the block; a length below zero stands as it was written.
    """

    lines: Ints
    readable: Mask
    times_s: Floats
    inputs: Ints
    outputs: Ints


def columns_of(header: bytes, name: str) -> Columns:
    """Return where a header has the columns of a trace. Raises ConfigError."""
    text = header.decode("utf-8-sig", errors="replace").strip()
    names = [word.strip().lower() for word in text.split(",")]
    found = [
        next((names.index(word) for word in known if word in names), None)
        for known in (TIME, INPUT, OUTPUT)
    ]
    time, inputs, outputs = found
    if time is None or inputs is None or outputs is None:
        shown = text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - a line to read
        raise ConfigError(f"trace {name}: its first line is {shown!r}; it must name {HEADERS}")
    return Columns(time=time, input=inputs, output=outputs, count=len(names))


def parse(block: bytes, columns: Columns) -> Lines:
    """Return the numbers of a block of whole lines."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1))
    stops = ends - (data[ends - 1] == ord("\r"))
    lines = np.flatnonzero(stops > starts)
    starts, stops = starts[lines], stops[lines]
    commas = np.flatnonzero(data == ord(","))
    first = np.searchsorted(commas, starts)
    whole_lines = np.searchsorted(commas, stops) - first == columns.count - 1
    starts, stops, first = starts[whole_lines], stops[whole_lines], first[whole_lines]

    def field(column: int) -> tuple[Ints, Ints]:
        begin = starts if column == 0 else commas[first + column - 1] + 1
        return begin, stops if column == columns.count - 1 else commas[first + column]

    times_s, timed = _times(data, *field(columns.time))
    inputs, is_input = _signed(data, *field(columns.input))
    outputs, is_output = _signed(data, *field(columns.output))
    readable = whole_lines.copy()
    readable[whole_lines] = timed & is_input & is_output
    kept = readable[whole_lines]
    return Lines(lines=lines, readable=readable, times_s=times_s[kept], inputs=inputs[kept],
                 outputs=outputs[kept])  # fmt: skip


def _whole(data: Bytes, starts: Ints, stops: Ints) -> tuple[Ints, Mask]:
    """Return the whole numbers between the positions, and which of them are nothing but digits."""
    widths = stops - starts
    values = np.zeros(len(starts), np.int64)
    right = widths > 0
    for place in range(min(int(widths.max(initial=0)), MOST_DIGITS)):
        within = widths > place
        digits = data[np.where(within, stops - 1 - place, 0)] - np.uint8(ord("0"))
        right &= ~within | (digits < 10)  # noqa: PLR2004 - what is below '0' wraps to above
        values += np.where(within, digits, 0) * np.int64(10**place)
    values[widths > MOST_DIGITS] = HUGE
    return values, right


def _signed(data: Bytes, starts: Ints, stops: Ints) -> tuple[Ints, Mask]:
    negative = (stops > starts) & (data[starts] == ord("-"))
    values, right = _whole(data, starts + negative, stops)
    return np.where(negative, -values, values), right


def _times(data: Bytes, starts: Ints, stops: Ints) -> tuple[Floats, Mask]:
    """Return seconds: since 1970 of dates in UTC, else as they are written."""
    dated = stops - starts >= DATE_LENGTH
    dated[dated] = data[starts[dated] + 4] == ord("-")
    values, right = np.zeros(len(starts)), np.zeros(len(starts), np.bool_)
    for chosen, read in ((dated, _dates), (~dated, _seconds)):
        if chosen.any():
            values[chosen], right[chosen] = read(data, starts[chosen], stops[chosen])
    return values, right


def _seconds(data: Bytes, starts: Ints, stops: Ints) -> tuple[Floats, Mask]:
    """Return seconds with or without a fraction."""
    dots = np.append(np.flatnonzero(data == ord(".")), len(data))
    points = np.minimum(dots[np.searchsorted(dots, starts)], stops)
    values, right = _whole(data, starts, points)
    parts, proper = _fraction(data, points, stops)
    return values + parts, right & proper


def _fraction(data: Bytes, starts: Ints, stops: Ints) -> tuple[Floats, Mask]:
    """Return what stands behind a point, as a part of one; nothing at all is zero."""
    there = stops > starts
    cut = np.minimum(stops, starts + 10)  # more than nanoseconds nobody writes
    digits, right = _whole(data, starts + 1, cut)
    point = data[np.where(there, starts, 0)] == ord(".")
    parts = np.where(there, digits / 10.0 ** np.maximum(cut - starts - 1, 0), 0.0)
    return parts, ~there | (right & point)


def _dates(data: Bytes, starts: Ints, stops: Ints) -> tuple[Floats, Mask]:
    """Return Unix seconds of dates like 2024-05-12 00:00:00.001163+00:00, as short as seconds."""
    marks = (data[starts + at] == ord(mark) for at, mark in MARKS)
    between = np.isin(data[starts + 10], (ord(" "), ord("T")))
    numbers = [_whole(data, starts + at, starts + at + digits) for at, digits in PARTS]
    (year, month, day, hour, minute, second), digital = zip(*numbers, strict=True)
    right = reduce(np.logical_and, (*marks, between, *digital))
    right &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)  # noqa: PLR2004 - a calendar
    right &= (hour < 24) & (minute < 60) & (second <= 60)  # noqa: PLR2004 - a clock
    stops = _before_zone(data, starts, stops)
    parts, proper = _fraction(data, starts + DATE_LENGTH, stops)
    seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    return seconds + parts, right & proper


def _before_zone(data: Bytes, starts: Ints, stops: Ints) -> Ints:
    """Return where times end that say, with Z or +00:00, that they are UTC; others stay long."""
    zulu = data[stops - 1] == ord("Z")
    offset = reduce(
        np.logical_and, (data[stops - 6 + at] == ord(c) for at, c in enumerate("+00:00"))
    )
    offset &= stops - starts >= DATE_LENGTH + 6
    ends: Ints = stops - zulu - 6 * offset
    return ends


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Return days since 1970-01-01 in the Gregorian calendar; a year begins in March here."""
    year = year - (month <= 2)  # noqa: PLR2004 - January and February end the year before
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    leap = year // 4 - year // 100 + year // 400
    days: Ints = 365 * year + leap + of_year - 719_468
    return days
