"""Set-ups: what must not be pooled, how they are called, and which realities come together."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations

import pytest

from campaign.analysis.columns import BY_NAME
from campaign.analysis.per_request import by_regime, only, samples_of
from campaign.analysis.realities import chosen, kind_of
from campaign.analysis.setups import Setup, names
from db.errors import ConfigError

PLAIN = Setup(model="m/M", board="l4", backend="vllm", dtype="bfloat16", mode="offline",
              options='{"enforce_eager": false, "seed": 1}', weights="real", reality="real",
              protocol="quick", gpus=1, tensor_parallel=1)  # fmt: skip
OTHERWISE: dict[str, object] = {
    "model": "m/N", "board": "t4", "catalogue_model": "m/M", "model_commit": "c0ffee",
    "backend": "transformers", "gpus": 2, "tensor_parallel": 2, "expert_parallel": 2,
    "data_parallel": 2, "dtype": "float16", "quantization": "fp8", "mode": "online", "threads": 4,
    "options": '{"enforce_eager": true, "seed": 1}', "speculation": "ngram",
    "speculative_tokens": 4, "draft": "m/D", "declared_power_limit_w": 200.0,
    "backend_version": "0.32", "weights": "random", "protocol": "full", "reality": "simulated",
    "origin_reality": "real", "source": "lab", "conditions": "arrival=at_once",
    "also": (("driver", "580"),),
}  # fmt: skip


def record(**fields: object) -> dict[str, object]:
    return {"model": "m/M", "board": "l4", "backend": "vllm", "batch_size": 8, "input_tokens": 64,
            "output_tokens": 32, "energy_j_per_request": 5.0, **fields}  # fmt: skip


# ---- what is pooled --------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERWISE)
def test_no_two_set_ups_are_called_the_same(name: str) -> None:
    """Each field on its own, and beside set-ups that differ in every other one."""
    other = replace(PLAIN, **{name: OTHERWISE[name]})
    lacking = replace(PLAIN, **{name: () if name == "also" else None})
    given = {PLAIN, other, *([lacking] if name not in ("model", "board") else [])}
    assert len(set(names(given).values())) == len(given)
    both = [replace(one, **{field: value}) for one in given
            for field, value in OTHERWISE.items() if field != name]  # fmt: skip
    assert len(set(names([*given, *both]).values())) == len({*given, *both})


def test_every_field_is_tried() -> None:
    assert set(OTHERWISE) == {field.name for field in fields(Setup)}


@pytest.mark.parametrize(
    "name",
    [n for n in OTHERWISE if n in BY_NAME and n not in ("model", "board", "source", "reality")],
)
def test_rows_that_differ_in_a_column_of_the_set_up_are_never_pooled(name: str) -> None:
    rows = [record(), record(**{name: OTHERWISE[name]})]
    assert len(by_regime(samples_of(rows))) == 2


def test_what_was_simulated_elsewhere_is_not_pooled_with_what_was_measured_there() -> None:
    rows = [record(reality="external", source="lab", origin_reality=origin)
            for origin in ("real", "simulated", "external")]  # fmt: skip
    assert len(by_regime(samples_of(rows))) == 3


# ---- names -----------------------------------------------------------------------------------


def test_a_name_holds_what_differs_in_the_answer_and_nothing_else() -> None:
    eager = replace(PLAIN, options='{"enforce_eager": true, "seed": 1}')
    slower = replace(PLAIN, declared_power_limit_w=200.0)
    assert names([PLAIN]) == {PLAIN: "vllm m/M on l4"}
    assert list(names([PLAIN, eager, slower]).values()) == [
        "vllm m/M on l4 enforce_eager=false",
        "vllm m/M on l4 enforce_eager=true",
        "vllm m/M on l4 declared_power_limit_w=200 enforce_eager=false",
    ]


def test_options_are_told_beside_others_of_the_same_backend_alone() -> None:
    other = replace(PLAIN, backend="transformers", options='{"attn_implementation": "sdpa"}')
    assert list(names([PLAIN, other]).values()) == ["vllm m/M on l4", "transformers m/M on l4"]


def test_options_of_others_need_not_be_json() -> None:
    told = names(replace(PLAIN, options=text) for text in ("--eager", "[1]", None))
    assert list(told.values()) == [
        "vllm m/M on l4 options=--eager", "vllm m/M on l4 options=[1]", "vllm m/M on l4",
    ]  # fmt: skip


def test_set_ups_are_chosen_by_the_words_of_their_names() -> None:
    rows = [record(options='{"enforce_eager": true}'), record(declared_power_limit_w=200.0),
            record(dtype="float16")]  # fmt: skip
    samples = samples_of(rows)
    for word, left in (("enforce_eager=true", 1), ("enforce_eager=none", 2), ("dtype=float16", 1),
                       ("declared_power_limit_w=200,300", 1), ("backend=vllm", 3)):  # fmt: skip
        found = only(samples, [word])
        assert len(found.usable) == left
        assert found.dropped == ({"not_asked_for": 3 - left} if left < 3 else {})
    for word, told in (("dtyp=float16", "of one of"), ("dtype", "NAME=VALUE"),
                       ("dtype=float32", "of dtype there is float16, none")):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            only(samples, [word])


# ---- realities -------------------------------------------------------------------------------


def test_simulated_rows_stay_out_beside_measured_ones_unless_asked_for() -> None:
    kinds = ["real", "simulated", "external", "simulated"]
    taken, line = chosen(kinds, [True] * 4, None)
    assert taken == [True, False, True, False]
    assert line == "2 simulated rows left out: --reality simulated takes them"
    assert chosen(kinds, [True] * 4, ["simulated"]) == ([False, True, False, True], None)
    assert chosen(kinds, [True] * 4, ["real", "simulated"])[0] == [True, True, False, True]
    with pytest.raises(ConfigError, match="there are 2 simulated"):
        chosen(["simulated"] * 2, [True] * 2, ["real"])


def test_simulated_rows_are_taken_where_nothing_else_says_anything() -> None:
    assert chosen(["real", "simulated"], [False, True], None) == ([True, True], None)
    assert chosen([], [], ["real"]) == ([], None)


@pytest.mark.parametrize(
    ("reality", "origin", "kind"),
    [("real", "real", "real"), ("simulated", "simulated", "simulated"),
     ("external", "simulated", "simulated"), ("external", "real", "external"),
     (None, "external", "external"), (None, None, "external")],
)  # fmt: skip
def test_an_imported_row_is_external_unless_it_was_simulated_there(
    reality: str | None, origin: str | None, kind: str
) -> None:
    assert kind_of(reality, origin) == kind


def test_names_do_not_depend_on_which_others_come_first() -> None:
    every = [replace(PLAIN, **{name: value}) for name, value in OTHERWISE.items()]
    told = names(every)
    for one, other in combinations(every[:8], 2):
        assert set(names([one, other]).values()) == set(names([other, one]).values())
    assert names(reversed(every)) == told
