"""A tokenizer for models that have none: byte-pair encoding trained on a text of our own.

Serves random weights, whose ids mean nothing; text prompts and servers only need one to exist.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

#: Ids 0 to 3, where Llama's and OPT's configurations expect them or close to it.
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
#: Every byte needs an id before any merge.
SMALLEST = 256 + len(SPECIAL)
LARGEST = 4096

_SOUNDS = (
    "a al am an ar as at be ca ce co de di do e ed el en er es et ex fa fi for ge ha he hi ho i "
    "ic id il in ing io is it ka la le li lo ly ma me men mi mo na ne ni no o of ol on or ou pa "
    "pe pi pre pro ra re ri ro sa se si so st ta te th the ti tion to tra u un ur us ve vi wa "
    "we wi y"
)
_SYLLABLES = _SOUNDS.split()


def write_tokenizer(folder: Path, vocabulary: int) -> int | None:
    """Train a tokenizer with at most `vocabulary` ids into a model's folder; returns its size.

    None, and nothing is written, where the vocabulary is smaller than the bytes.
    """
    if vocabulary < SMALLEST:
        return None
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, LARGEST),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(2000), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    unknown, begin, end, pad = SPECIAL
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": unknown,
                "bos_token": begin,
                "eos_token": end,
                "pad_token": pad,
            },
            indent=1,
        )
    )
    return int(tokenizer.get_vocab_size())


def _sentences(count: int) -> list[str]:
    """Return made-up sentences, the same on every machine."""
    draws = hashlib.shake_256(b"sentences").digest(count * 48)
    sentences = []
    for start in range(0, len(draws), 48):
        words, word = [], ""
        for draw in draws[start : start + 48]:
            word += _SYLLABLES[draw % len(_SYLLABLES)]
            if draw > 96:  # noqa: PLR2004 - a word of one to four syllables
                words.append(word)
                word = ""
        sentences.append(" ".join([*words, word]).strip().capitalize() + ".")
    return sentences
