"""Brings the gate its numbers: what the served artefacts and the simple baselines answer on the test tickets.

Knows how to ask; what is good enough is the gate's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bot.engine.factory import choose_kind
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import ChoiceSet
from bot.engine.settings import EngineSettings
from bot.settings import Settings
from bot.tasks.classification import build_choices
from bot.types import BASE, LabelSet
from db.types import MaskedText, ModelKind, TaskKind
from training.contest import BASELINE_NAMES, Answers, Contest, GateDecision
from training.dataset import Dataset
from training.fewshot import build_few_shot
from training.gate import decide
from training.gate_summary import SummaryContest, decide_summary
from training.leaks import Canary, add_check, check_leaks
from training.scoring import OnStep, score_labels, score_summaries, tempt


async def judge(
    base_path: Path,
    dataset: Dataset,
    *,
    bundles: Mapping[str, Path],
    label_set: LabelSet | None,
    settings: Settings,
    on_step: OnStep,
    canaries: Sequence[Canary] = (),
) -> GateDecision:
    """Score the test split with base, candidate and, where `bundles` has it, the active adapter, and let the gate decide.

    `canaries` are the secrets that were planted among what a summary decoder learned from: the candidate is tempted to tell them.
    """
    engine_settings = settings.engine.model_copy(update={"n_threads": settings.training.threads})
    if dataset.task is TaskKind.SUMMARY or label_set is None:
        scores = await score_summaries(base_path, dataset.test, bundles=bundles, settings=engine_settings, on_step=on_step)
        decision = decide_summary(SummaryContest.from_scores(scores), settings=settings.training)
        if not canaries:
            return decision
        lures = [canary.lure for canary in canaries]
        told = await tempt(base_path, bundles["candidate"], lures, settings=engine_settings)
        return add_check(decision, check_leaks(canaries, told))
    is_encoder = choose_kind(read_model_head(base_path)) is ModelKind.ENCODER
    choices = build_choices(label_set)
    if is_encoder:
        baselines = build_baselines(base_path, dataset, label_set, settings=engine_settings)
    else:
        few_shot = await _ask_few_shot(base_path, dataset, choices, settings=engine_settings, on_step=on_step)
        baselines = {**few_shot, **_answer_by_words(dataset, label_set)}
    answers = await score_labels(
        base_path, dataset.test, choices=choices, bundles=bundles, settings=engine_settings, on_step=on_step
    )
    contest = Contest(
        labels=label_set.names,
        gold=np.array([label_set.names.index(item.target) for item in dataset.test], dtype=np.int64),
        candidate=answers["candidate"],
        base=answers["base"],
        active=answers.get("active"),
        baselines=baselines,
        escalate=frozenset(place for place, label in enumerate(label_set.labels) if label.escalate),
        is_golden=np.array([item.is_golden for item in dataset.test], dtype=bool),
    )
    return decide(contest, settings=settings.training)


async def _ask_few_shot(
    base_path: Path, dataset: Dataset, choices: ChoiceSet, *, settings: EngineSettings, on_step: OnStep
) -> dict[str, Answers]:
    """Let the bare decoder answer with examples in its prompt, where a prompt can hold them: what costs no training must be beaten."""
    shown = build_few_shot(choices, dataset.train)
    if shown is None:
        return {}
    answers = await score_labels(base_path, dataset.test, choices=shown, bundles={}, settings=settings, on_step=on_step)
    return {"few_shot": replace(answers[BASE], latencies_ms=None)}


def build_baselines(base_path: Path, dataset: Dataset, label_set: LabelSet, *, settings: EngineSettings) -> dict[str, Answers]:
    """Train the simple baselines on the same examples and let them answer the test tickets."""
    from training.compare import answer_simply
    from training.encoder.served import ServedEncoder

    texts, labels = _read_learnt(dataset, label_set)
    with ServedEncoder(
        base_path, text_tokens=settings.text_tokens, n_threads=settings.n_threads, merge_limit_mib=settings.merge_limit_mib
    ) as served:
        answers = answer_simply(
            texts,
            labels,
            [item.text for item in dataset.test],
            n_labels=len(label_set.names),
            embed=served.embed,
        )
    return {name: Answers(answers[name]) for name in BASELINE_NAMES if name in answers}


def _answer_by_words(dataset: Dataset, label_set: LabelSet) -> dict[str, Answers]:
    """Let what needs no model answer as well: a decoder has no embeddings, and is worth its time only where it beats the words."""
    from training.compare import answer_by_words

    texts, labels = _read_learnt(dataset, label_set)
    answers = answer_by_words(texts, labels, [item.text for item in dataset.test], n_labels=len(label_set.names))
    return {name: Answers(probabilities) for name, probabilities in answers.items()}


def _read_learnt(dataset: Dataset, label_set: LabelSet) -> tuple[list[MaskedText], NDArray[np.int64]]:
    learnt = [item for item in (*dataset.train, *dataset.validation) if not item.is_negative]
    return [item.text for item in learnt], np.array([label_set.names.index(item.target) for item in learnt], dtype=np.int64)
