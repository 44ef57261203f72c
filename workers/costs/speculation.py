"""What proposing tokens gives an engine: how many it looks ahead, and how many a step keeps.

Pure. Says None where the text alone decides, and never guesses; work and seconds are for
`roofline` and `cost`.
"""

from __future__ import annotations

from db.records import EngineSpec
from workers.shapes.shape import Shape, shape_of

#: The chance that a target keeps a token of a draft model, if it kept all before it. Assumption:
#: with it a 1B draft that proposes 4 saves an 8B target what 2504.17674 states, and costs it as
#: much at a batch of 128; docs/estimate.md has the figures.
KEPT = 0.6
#: vLLM's option, and its value, that make it keep tokens at a set rate.
METHOD, SYNTHETIC = "rejection_sample_method", "synthetic"
LENGTH = "synthetic_acceptance_length"
#: The speculation that looks in the text, and needs no draft.
NGRAM = "ngram"


def proposed(engine: EngineSpec) -> int:
    """Return how many tokens a step looks ahead; 0 without speculation."""
    return (engine.speculative_tokens or 0) if engine.speculation else 0


def kept(engine: EngineSpec) -> float | None:
    """Return how many tokens of a request a step keeps in the mean, its own included.

    At a set rate where the engine is told one; of a draft model's tokens each with the same
    chance. None where nobody can tell: `unknown` says why.
    """
    ahead = proposed(engine)
    if engine.speculation is None:
        return 1.0
    if engine.options.get(METHOD) == SYNTHETIC:
        length = engine.options.get(LENGTH)
        told = isinstance(length, int | float) and 1 <= length <= ahead + 1
        return float(length) if told and length is not None else None
    if engine.speculation != "draft_model" or draft_shape(engine) is None:
        return None
    return sum(KEPT**count for count in range(ahead + 1))


def fewest(engine: EngineSpec) -> float | None:
    """Return how many tokens a step keeps whatever the text is; where that is all, `kept`.

    Of a lookup in the text its own one: proposing in vain, in every step, is the most that
    speculation can cost.
    """
    lookup = engine.speculation == NGRAM and engine.options.get(METHOD) != SYNTHETIC
    return 1.0 if lookup else kept(engine)


def unknown(engine: EngineSpec) -> str | None:
    """Return why it cannot be told how many tokens a step keeps; None where it can."""
    if kept(engine) is not None:
        return None
    if engine.options.get(METHOD) == SYNTHETIC:
        return f"{LENGTH} is not a number from 1 to {proposed(engine) + 1}"
    if engine.speculation == "draft_model":
        return "the shape of the draft model is not described"
    return "how many tokens of a lookup in the text are kept depends on the text"


def assumption(engine: EngineSpec) -> str | None:
    """Return what an estimate of an engine assumes of its text; None if nothing."""
    if engine.speculation != "draft_model" or engine.options.get(METHOD) == SYNTHETIC:
        return None
    tokens = f"{kept(engine):.2g} of a step's {proposed(engine) + 1} tokens"
    return f"assumed: a target keeps {KEPT:.0%} of a draft's tokens, so {tokens}"


def draft_shape(engine: EngineSpec) -> Shape | None:
    """Return the shape of the model that proposes tokens; None if none does, or not described."""
    if engine.draft is None or engine.speculation is None:
        return None
    return shape_of(engine.draft.name, engine.draft.architecture)
