"""Examples of both tasks as completions behind their task's prompt, with the digest that a checkpoint is recognised by.

Knows prompts and examples; neither model nor losses. Errors never quote a text.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bot.engine.protocol import ChoiceSet, EngineError
from bot.tasks.summary import build_summary_prompt, render_summary_answer, split_units
from db.types import MaskedText
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion, Pair, PromptTokens, build_choice, build_text
from training.encoder.prepare import Part, Prepared, compute_fingerprint
from training.encoder.settings import EncoderSettings
from training.encoder.types import SummaryExample, TrainingDataError

MIN_EXAMPLES: Final = 2
_PREFERENCE: Final = {name for name in DecoderSettings.model_fields if name.startswith("preference_")}
_FREE: Final = {"threads", "checkpoint_seconds", "max_seconds", "n_ctx"} | _PREFERENCE
"""Settings that decide nothing about the outcome of a supervised step."""


@dataclass(frozen=True)
class Prompted:
    """A task's shared prefix and the completions behind it, in the examples' order."""

    prefix: tuple[int, ...]
    completions: tuple[Completion, ...]


def check_choices(prepared: Prepared, part: Part) -> None:
    """Raise TrainingDataError where there is nothing to choose, or too little to learn it from."""
    if len(prepared.names) < 2:
        raise TrainingDataError("a decoder needs at least two labels to choose from; add labels before training")
    if len(part.learnt) < MIN_EXAMPLES:
        raise TrainingDataError(f"training needs at least {MIN_EXAMPLES} examples; wait for more feedback or import some")


def read_choices(prepared: Prepared, choices: ChoiceSet, reader: PromptTokens) -> Prompted:
    """Return classification's completions. Raises TrainingDataError."""
    tokens = reader.read_choices(choices)
    targets = prepared.targets
    prefix: tuple[int, ...] = ()
    completions = []
    for row, text in enumerate(prepared.texts):
        prefix, own = _read(reader, choices.prefix, text, choices.suffix)
        completions.append(
            build_choice(
                own,
                tokens,
                int(targets.label[row]),
                weight=float(targets.weight[row]),
                is_negative=bool(targets.is_negative[row]),
            )
        )
    return Prompted(prefix, tuple(completions))


def check_summaries(examples: Sequence[SummaryExample]) -> list[SummaryExample]:
    """Return the usable examples, weights scaled to mean 1 by the caller. Raises TrainingDataError."""
    for number, example in enumerate(examples):
        if not math.isfinite(example.weight) or example.weight < 0.0:
            raise TrainingDataError(f"example {number} has the weight {example.weight}; weights are numbers from 0 up")
    used = [example for example in examples if example.weight > 0.0 and example.summary.strip() and example.text.strip()]
    if sum(example.split == "train" for example in used) < MIN_EXAMPLES:
        raise TrainingDataError(f"training needs at least {MIN_EXAMPLES} summaries; wait for more feedback or import some")
    return used


def read_summaries(examples: Sequence[SummaryExample], reader: PromptTokens, *, answer_tokens: int) -> Prompted:
    """Return the completions of summaries."""
    mean = float(np.mean([example.weight for example in examples]))
    prefix: tuple[int, ...] = ()
    completions = []
    for example in examples:
        prompt = build_summary_prompt(split_units(example.text, example.turns))
        prefix, own = _read(reader, prompt.prefix, prompt.text, prompt.suffix)
        answer = reader.read_answer(render_summary_answer(example.summary))[:answer_tokens]
        completions.append(build_text(own, answer, weight=example.weight / mean))
    return Prompted(prefix, tuple(completions))


def read_pairs(
    examples: Sequence[SummaryExample], prompted: Prompted, reader: PromptTokens, *, answer_tokens: int
) -> dict[int, Pair]:
    """Return the pairs of edited summary and draft by the example's place; `prompted` is what `read_summaries` made of the examples.

    Drafts that are empty, or the same tokens as the edited summary once both are cut, make no pair.
    """
    pairs = {}
    for place, (example, edited) in enumerate(zip(examples, prompted.completions, strict=True)):
        if example.draft is None or not example.draft.strip():
            continue
        answer = reader.read_answer(render_summary_answer(example.draft))[:answer_tokens]
        if answer != edited.answer:
            pairs[place] = Pair(edited, build_text(edited.tokens[: edited.start + 1], answer, weight=edited.weight))
    if not pairs:
        return {}
    mean = float(np.mean([pair.edited.weight for pair in pairs.values()]))
    return {place: replace(pair, edited=replace(pair.edited, weight=pair.edited.weight / mean)) for place, pair in pairs.items()}


def _read(reader: PromptTokens, prefix: str, text: MaskedText | str, suffix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    try:
        return reader.read_prompt(prefix, text, suffix)
    except EngineError as error:  # the fixed part alone fills the model's context
        raise TrainingDataError(str(error)) from None


def fingerprint_choices(
    prepared: Prepared, part: Part, *, choices: ChoiceSet, base_digest: str, settings: DecoderSettings
) -> str:
    """Return a digest of all that decides a classification run's outcome."""
    rows = compute_fingerprint(prepared, base_digest=base_digest, settings=EncoderSettings())
    return _hash(rows, settings, choices.prefix, choices.suffix, *choices.answers, repr(part.held_out.tolist()))


def fingerprint_summaries(prompted: Prompted, *, base_digest: str, settings: DecoderSettings) -> str:
    """Return a digest of all that decides a summary run's outcome."""
    return _hash(base_digest, settings, repr(prompted))


def fingerprint_pairs(learnt: str, pairs: Mapping[int, Pair], *, settings: DecoderSettings) -> str:
    """Return a digest of all that decides the outcome of learning from edits; `learnt` is that of the supervised passes."""
    chosen = settings.model_dump_json(include=_PREFERENCE)
    return _hash(learnt, settings, chosen, *(f"{place} {pair!r}" for place, pair in pairs.items()))


def _hash(head: str, settings: DecoderSettings, *parts: str) -> str:
    hasher = hashlib.sha256(f"{head}\n{settings.model_dump_json(exclude=_FREE)}".encode())
    for part in parts:
        hasher.update(hashlib.sha256(part.encode("utf-8", "replace")).digest())
    return hasher.hexdigest()
