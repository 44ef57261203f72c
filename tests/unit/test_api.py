"""The Python interface: light to import, the verbs' own answers, the examples of its document."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

import campaign
from campaign import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "api.md").read_text()
GPT2 = {"model": "gpt2", "board": "l4", "input_tokens": 300, "output_tokens": 300}


def blocks(heading: str, language: str) -> list[str]:
    """Return the examples under a heading of the document."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)


def verb(capsys: pytest.CaptureFixture[str], *words: str) -> Mapping[str, object]:
    assert cli.main(["estimate", "--json", *words]) == 0
    found: Mapping[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_every_public_name_is_there_and_importing_loads_none_of_it() -> None:
    code = (
        "import sys, campaign;"
        "print([name for name in sys.modules if name.startswith(('campaign.', 'workers', 'db'))]);"
        "[getattr(campaign, name) for name in campaign.__all__]"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert said.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'estimates'"):
        campaign.estimates  # noqa: B018
    for room in ("campaign", "workers", "db"):
        assert (ROOT / room / "py.typed").exists()


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ((), {}),
        (("--gpus", "2", "--tensor-parallel", "1", "--batch", "9", "--version", "0.6", "--eager"),
         {"gpus": 2, "tensor_parallel": 1, "batch_size": 9, "version": "0.6", "eager": True}),
        (("--dtype", "float16", "--quantization", "gptq", "--input", "7", "--output", "9"),
         {"dtype": "float16", "quantization": "gptq", "input_tokens": 7, "output_tokens": 9}),
        (("--speculation", "ngram", "--speculative-tokens", "3", "--acceptance-length", "2.5"),
         {"speculation": "ngram", "speculative_tokens": 3, "acceptance_length": 2.5}),
        (("--backend", "transformers", "--speculation", "ngram"),
         {"backend": "transformers", "speculation": "ngram"}),
        (("--output", "2000"), {"output_tokens": 2000}),
    ],
)  # fmt: skip
def test_the_function_answers_what_the_verb_answers(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], more: dict[str, object]
) -> None:
    found = campaign.estimate(**{**GPT2, **more})  # type: ignore[arg-type]
    assert list(asdict(found).items()) == list(
        verb(capsys, "--model", "gpt2", "--board", "l4", *words).items()
    )


def test_a_catalogue_of_ones_own_is_heeded(tmp_path: Path) -> None:
    own = tmp_path / "my.yaml"
    own.write_text("boards: {mine: {memory_gb: 0.1}}\n")
    assert campaign.estimate(**GPT2).fits is True
    found = campaign.estimate(**{**GPT2, "board": "mine"}, catalog_file=own)
    assert (found.fits, found.energy_j) == (False, None)


def test_counts_of_numpy_do_not_overflow() -> None:
    """A grid in a DataFrame has such counts; their products would wrap around, or warn."""
    small = {"input_tokens": np.int16(300), "output_tokens": np.int16(300)}
    assert campaign.estimate(**{**GPT2, **small}) == campaign.estimate(**GPT2)
    assert type(campaign.estimate(**{**GPT2, **small}).energy_j) is float


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gpus": 0}, "--gpus 0: give a whole number from 1 to 2147483647"),
        ({"batch_size": 1.5}, "--batch 1.5: give a whole number"),
        ({"input_tokens": "300"}, "--input '300': give a whole number"),
        ({"tensor_parallel": 0}, "--tensor-parallel 0: give a whole number"),
        ({"backend": "vlm"}, "--backend vlm: one of vllm, transformers"),
        ({"dtype": "int3"}, "--dtype int3: one of auto, "),
        ({"gpus": 3, "tensor_parallel": 2}, "--tensor-parallel 2 does not divide --gpus 3"),
        ({"model": "gpt3"}, "model gpt3: not in the catalogue"),
        ({"catalog_file": "/nowhere.yaml"}, "catalog_file: /nowhere.yaml"),
        ({"store": "/nowhere"}, "there is no store in /nowhere"),
    ],
)
def test_wrong_input_is_one_line(more: dict[str, object], message: str) -> None:
    with pytest.raises(campaign.ConfigError, match=f"^{re.escape(message)}") as told:
        campaign.estimate(**{**GPT2, **more})  # type: ignore[arg-type]
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("interval_s", [0.0, -1.0, 61.0, float("nan")])
def test_an_interval_that_says_nothing_is_refused(interval_s: float) -> None:
    with (
        pytest.raises(campaign.ConfigError, match="it must be above zero, 60 at most"),
        campaign.meter(interval_s=interval_s),
    ):
        pytest.fail("the block began")


# ---- the document ------------------------------------------------------------------------------


def test_the_examples_of_the_estimate_say_what_they_show() -> None:
    text = "\n".join(blocks("estimate", "pycon"))
    said: list[str] = []
    example = doctest.DocTestParser().get_doctest(text, {}, "docs/api.md", None, None)
    found = doctest.DocTestRunner().run(example, out=said.append)
    assert found.attempted >= 4
    assert found.failed == 0, "".join(said)


def test_rows_can_be_read_like_that() -> None:
    (example,) = blocks("read", "python")
    calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
    assert [ast.unparse(call.func) for call in calls] == ["campaign.read"] * 3
    for call in calls:
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        inspect.signature(campaign.read).bind(*call.args, **keywords)


@pytest.mark.parametrize("name", ["Estimate", "MeterResult", "GpuResult", "CpuEnergy"])
def test_the_document_has_every_field_and_error(name: str) -> None:
    missing = [f.name for f in fields(getattr(campaign, name)) if f"`{f.name}`" not in DOCUMENT]
    assert missing == []
    assert [public for public in campaign.__all__ if public not in DOCUMENT] == []
