"""Learning from edits: direct preference optimisation (Rafailov et al., 2023) on pairs of a draft and what a person made of it.

Knows pairs, packs and the loss; not texts, files or checkpoints. The reference is what the supervised passes left behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from training.decoder.loop import Learner, compute_rate, run_steps
from training.decoder.pack import Pack, build_pack
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Pair
from training.encoder.loop import Stage, order_batches

_SEED: Final = 7_919
"""Keeps the order of pairs apart from that of examples."""


@dataclass(frozen=True)
class LogProbabilities:
    """Of each pair's whole answers, in nats: the sums over their tokens, float32, shape (n_pairs,)."""

    edited: Tensor
    draft: Tensor


@dataclass(frozen=True)
class PairPack:
    """One forward pass over pairs: the edited one of pair `rows[i]` is the pack's completion 2i, its draft 2i + 1."""

    pack: Pack
    rows: tuple[int, ...]


def build_pair_packs(prefix: Sequence[int], pairs: Sequence[Pair], rows: Sequence[int], *, limit: int) -> list[PairPack]:
    """Spread the pairs in `rows` over packs of at most `limit` tokens by first-fit; both answers of a pair share one.

    A pair that is longer has a pack of its own.
    """
    groups: list[list[int]] = []
    rooms: list[int] = []
    for row in sorted(rows, key=lambda row: -pairs[row].n_tokens):
        need = pairs[row].n_tokens
        place = next((place for place, room in enumerate(rooms) if room >= need), None)
        if place is None:
            groups.append([])
            rooms.append(limit - len(prefix))
            place = len(groups) - 1
        groups[place].append(row)
        rooms[place] -= need
    return [
        PairPack(build_pack(prefix, [answer for row in group for answer in (pairs[row].edited, pairs[row].draft)]), tuple(group))
        for group in groups
    ]


def compute_answers(logits: Tensor, pack: Pack) -> Tensor:
    """Return the log-probability of each completion's whole answer, shape (n_completions,); prompts count for nothing."""
    sums = []
    for completion, first in zip(pack.completions, pack.first, strict=True):
        answer = torch.tensor(completion.answer, device=logits.device)
        sums.append(-functional.cross_entropy(logits[first : first + len(answer)], answer, reduction="sum"))
    return torch.stack(sums)


def compute_margin(policy: LogProbabilities, reference: LogProbabilities, *, beta: float) -> Tensor:
    """Return beta times how much more the edited answer gained on the reference than the draft did; shape (n_pairs,).

    Tokens before the first difference cancel: both answers hold them after the same words.
    """
    return beta * ((policy.edited - reference.edited) - (policy.draft - reference.draft))


def compute_preference_loss(policy: LogProbabilities, reference: LogProbabilities, *, beta: float) -> Tensor:
    """Return the loss of each pair, -log sigmoid(margin); shape (n_pairs,)."""
    return -functional.logsigmoid(compute_margin(policy, reference, beta=beta))


def compute_pack_loss(logits: Tensor, packed: PairPack, reference: LogProbabilities, *, settings: DecoderSettings) -> Tensor:
    """Return the weighted sum of the pairs' losses in a pack, each with its anchor: the mean loss of writing the edited answer."""
    answers = compute_answers(logits, packed.pack)
    policy = LogProbabilities(answers[0::2], answers[1::2])
    rows = list(packed.rows)
    known = LogProbabilities(reference.edited[rows].to(logits.device), reference.draft[rows].to(logits.device))
    edited = packed.pack.completions[0::2]
    weight = torch.tensor([one.weight for one in edited], device=logits.device)
    length = torch.tensor([float(len(one.answer)) for one in edited], device=logits.device)
    loss = compute_preference_loss(policy, known, beta=settings.preference_beta)
    return (weight * (loss - settings.preference_anchor * policy.edited / length)).sum()


def compute_log_probabilities(
    learner: Learner, prefix: Sequence[int], pairs: Sequence[Pair], *, limit: int, on_step: Callable[[int, int], None]
) -> LogProbabilities:
    """Return what the learner's weights give every pair, without dropout. `on_step` gets (pairs done, total); it may raise."""
    edited, draft = torch.zeros(len(pairs)), torch.zeros(len(pairs))
    was_training = learner.model.training
    learner.model.eval()
    done = 0
    try:
        with torch.no_grad():
            for packed in build_pair_packs(prefix, pairs, range(len(pairs)), limit=limit):
                answers = compute_answers(learner.compute_logits(packed.pack), packed.pack).cpu()
                edited[list(packed.rows)], draft[list(packed.rows)] = answers[0::2], answers[1::2]
                done += len(packed.rows)
                on_step(done, len(pairs))
    finally:
        learner.model.train(was_training)
    return LogProbabilities(edited, draft)


def run_preference(
    learner: Learner,
    prefix: Sequence[int],
    pairs: Sequence[Pair],
    *,
    reference: LogProbabilities,
    stage: Stage,
    first_step: int,
    settings: DecoderSettings,
    on_step: Callable[[int, int, float, float], bool],
) -> None:
    """Run the steps over the pairs in `stage.rows` from `first_step` on; `on_step` is as in `run_stage`."""
    lengths = [pair.n_tokens for pair in pairs]
    batches = order_batches(stage, lengths, batch_size=settings.batch_size, seed=settings.seed + _SEED)

    def take(step: int) -> float:
        rows = batches[step]
        packs = build_pair_packs(prefix, pairs, rows, limit=learner.pack_tokens)

        def compute(logits: Tensor, number: int) -> Tensor:
            return compute_pack_loss(logits, packs[number], reference, settings=settings) / len(rows)

        rate = settings.preference_rate * compute_rate(step, len(batches))
        seed = (settings.seed + _SEED) * 1_000_003 + step
        return learner.descend([packed.pack for packed in packs], compute, rate=rate, seed=seed)

    run_steps(take, first_step=first_step, n_steps=len(batches), on_step=on_step)


def describe_preference(before: LogProbabilities, after: LogProbabilities, *, rows: Sequence[int], beta: float) -> dict[str, Any]:
    """Return the figures of the pairs in `rows`: how often the edited answer is the likelier one, and by how much that has changed.

    `margin` is the mean of `compute_margin`, 0 before the step; `edited_change` the mean gain of the edited answers in nats.
    """
    if not rows:
        return {}
    chosen = list(rows)
    margin = compute_margin(after, before, beta=beta)[chosen]
    return {
        "accuracy_before": _share(before.edited[chosen] > before.draft[chosen]),
        "accuracy_after": _share(after.edited[chosen] > after.draft[chosen]),
        "margin": round(float(margin.mean()), 4),
        "share_gained": _share(margin > 0.0),
        "edited_change": round(float((after.edited - before.edited)[chosen].mean()), 4),
        "draft_change": round(float((after.draft - before.draft)[chosen].mean()), 4),
    }


def _share(is_so: Tensor) -> float:
    return round(float(is_so.float().mean()), 4)
