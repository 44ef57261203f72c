"""Which GPUs are metered, for every way to name them."""

from __future__ import annotations

from itertools import product

import pytest

from db.errors import ConfigError, NodeUnfit
from workers.meters.nvml import GpuInfo
from workers.meters.visible import CUT, HIDDEN, NOT_VISIBLE, ORDER_ASSUMED, choose

A, B, C = "GPU-aaaa0000-1", "GPU-aaaa1111-2", "GPU-cccc0000-3"


def gpu(index: int, uuid: str, name: str = "H100", *, mig: bool = False) -> GpuInfo:
    return GpuInfo(uuid=uuid, index=index, name=name, sibling=True, counter=True,
                   power_field="instant", mig=mig)  # fmt: skip


HERE = (gpu(0, A), gpu(1, B), gpu(2, C))

#: CUDA_VISIBLE_DEVICES: what CUDA shows, and what is said about it.
SHOWN: dict[str | None, tuple[list[int], tuple[str, ...]]] = {
    None: ([0, 1, 2], ()),
    "": ([], (HIDDEN,)),
    "-1": ([], (HIDDEN,)),
    "NoDevFiles": ([], (CUT, HIDDEN)),
    "1": ([1], ()),
    "2,0": ([2, 0], ()),
    " 2 , 0 ": ([2, 0], ()),
    "0,2,-1,1": ([0, 2], ()),
    "0,7,1": ([0], (CUT,)),
    "7": ([], (CUT, HIDDEN)),
    "7,-1": ([], (CUT, HIDDEN)),
    "0,,1": ([0], (CUT,)),
    "1gpu,2": ([1, 2], ()),
    "0,1,0": ([], (CUT, HIDDEN)),
    "0,1,0,7": ([], (CUT, HIDDEN)),
    A: ([0], ()),
    f"{C},{A}": ([2, 0], ()),
    "GPU-c": ([2], ()),
    "GPU-aaaa1,GPU-c": ([1, 2], ()),
    "GPU-aaaa": ([], (CUT, HIDDEN)),
    "GPU-c,GPU-aaaa,GPU-aaaa0": ([2], (CUT,)),
    "GPU-ffff": ([], (CUT, HIDDEN)),
    "GPU-c,0": ([2], (CUT,)),
    "0,GPU-c": ([0], (CUT,)),
    "cccc": ([], (CUT, HIDDEN)),
}
#: --gpus: what it names.
NAMED: dict[str, list[int]] = {
    "0": [0], "2,0": [2, 0], " 1 , 2": [1, 2], B: [1], "GPU-c,0": [2, 0], "1,1": [1], f"1,{B}": [1],
}  # fmt: skip


@pytest.mark.parametrize("value", SHOWN)
def test_without_names_the_gpus_are_those_that_cuda_shows(value: str | None) -> None:
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    choice = choose(HERE, None, environ)
    assert ([g.index for g in choice.gpus], choice.reasons) == SHOWN[value]
    assert choice.reasons_of == {}


@pytest.mark.parametrize(("named", "value"), [*product(NAMED, SHOWN)])
def test_names_win_and_what_cuda_hides_is_marked(named: str, value: str | None) -> None:
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    choice = choose(HERE, named, environ)
    assert [g.index for g in choice.gpus] == NAMED[named]
    hidden = {i for i in NAMED[named] if i not in SHOWN[value][0]}
    assert choice.reasons_of == {HERE[i].uuid: (NOT_VISIBLE,) for i in hidden}
    assert choice.reasons == ()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("3", "no GPU 3 on this machine .here: 0 "),
        ("0,3", "no GPU 3"),
        ("-1", "no GPU -1"),
        ("\N{SUPERSCRIPT TWO}", "no GPU"),
        ("GPU-ffff", "no GPU GPU-ffff"),
        ("GPU-aaaa", "fits 2 GPUs"),
        ("GPU-", "fits 3 GPUs"),
        ("aaaa0000", "no GPU aaaa0000"),
        ("", "is empty"),
        ("0,,1", "is empty"),
    ],
)
def test_a_name_that_fits_no_single_gpu_is_refused_in_one_line(named: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        choose(HERE, named, {})
    assert "\n" not in str(caught.value)


def test_a_gpu_that_does_not_answer_leaves_the_others_their_numbers() -> None:
    two = (HERE[0], HERE[2])
    assert choose(two, "2", {}).gpus == (HERE[2],)
    with pytest.raises(ConfigError):
        choose(two, "1", {})
    choice = choose(two, None, {"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert (choice.gpus, choice.reasons) == ((HERE[0],), (CUT,))


@pytest.mark.parametrize("word", ["MIG-1234", f"MIG-{A}/1/0", f"0,MIG-{A}/1/0", f"{A},MIG-1234"])
@pytest.mark.parametrize("named", [True, False])
def test_an_instance_of_a_gpu_is_refused(word: str, named: bool) -> None:
    environ = {} if named else {"CUDA_VISIBLE_DEVICES": word}
    with pytest.raises(NodeUnfit, match="mig"):
        choose(HERE, word if named else None, environ)


@pytest.mark.parametrize(
    ("named", "value"), [("0,1", None), (B, None), (None, "1"), (None, B), ("1", "0")]
)
def test_a_gpu_that_is_split_is_refused_when_asked_for(
    named: str | None, value: str | None
) -> None:
    split = (HERE[0], gpu(1, B, mig=True), HERE[2])
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    with pytest.raises(NodeUnfit, match=r"split by MIG.*nvidia-smi -i 1 -mig 0"):
        choose(split, named, environ)
    assert choose(split, "0", environ).gpus == (HERE[0],)


def test_a_gpu_that_is_split_is_among_all() -> None:
    assert len(choose((HERE[0], gpu(1, B, mig=True)), None, {}).gpus) == 2


@pytest.mark.parametrize(
    ("names", "value", "order", "unsure"),
    [
        (("A100", "H100"), "0", None, True),
        (("A100", "H100"), "0", "FASTEST_FIRST", True),
        (("A100", "H100"), "1,7", "", True),
        (("A100", "H100"), "0", "PCI_BUS_ID", False),
        (("A100", "H100"), "1,0", None, False),  # all of them, in whichever order
        (("A100", "H100"), "-1", None, False),
        (("A100", "H100"), A, None, False),
        (("H100", "H100"), "0", None, False),
    ],
)
def test_an_index_is_marked_where_cuda_may_count_otherwise(
    names: tuple[str, str], value: str, order: str | None, unsure: bool
) -> None:
    gpus = (gpu(0, A, names[0]), gpu(1, B, names[1]))
    environ = {"CUDA_VISIBLE_DEVICES": value}
    environ |= {} if order is None else {"CUDA_DEVICE_ORDER": order}
    assert (ORDER_ASSUMED in choose(gpus, None, environ).reasons) is unsure
    assert choose(gpus, "0", environ).reasons == ()
