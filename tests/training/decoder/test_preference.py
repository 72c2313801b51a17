"""Learning from edits: the loss against formulas written out, what a step does to real pairs, and being killed on the way."""

import math
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from bot.bundle import ADAPTER_FILE
from db.types import MaskedText
from training.decoder.preference import (
    LogProbabilities,
    build_pair_packs,
    compute_log_probabilities,
    compute_pack_loss,
    compute_preference_loss,
    describe_preference,
)
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Pair, build_text
from training.decoder.train import build_learner, train_summary_decoder
from training.encoder.types import CancelledError, RunInfo, SummaryExample

pytestmark = pytest.mark.train
THINGS = "printer toner monitor keyboard laptop password account network drive code".split()
SETTINGS = {"threads": 1, "precision": "fp32", "mode": "faithful", "epochs": 4, "batch_size": 4, "learning_rate": 5e-3}
PREFERENCE = {"preference_epochs": 6, "preference_min_pairs": 2}
PAIR = Pair(build_text((5, 6, 7), (8, 9, 3), weight=1.0), build_text((5, 6, 7), (8, 4), weight=1.0))


def make_examples(*, split="train", word="broken"):
    """Drafts that say too little, and what people made of them."""
    return [
        SummaryExample(
            text=MaskedText(f"hello my {thing} is {word} please help"),
            summary=MaskedText(f"the {thing} needs support"),
            draft=MaskedText(f"the {thing}"),
            split=split,
        )
        for thing in THINGS
    ]


@pytest.fixture
def run(base_path, tmp_path):
    """Train on examples; returns the bundle's directory and the figures."""

    def work(examples, *, directory=tmp_path / "run", on_progress=lambda progress: None, should_stop=lambda: False, **settings):
        figures = {}
        folder = train_summary_decoder(
            examples,
            base_gguf=base_path,
            settings=DecoderSettings(**SETTINGS | settings),
            checkpoint_dir=directory,
            on_progress=on_progress,
            should_stop=should_stop,
            run=RunInfo(prompt_version="summary-1"),
            on_figures=lambda name, values: figures.update({name: dict(values)}),
        )
        return folder, figures

    return work


def test_the_loss_is_the_one_worked_out_by_hand():
    policy = LogProbabilities(torch.tensor([-5.0, -4.0]), torch.tensor([-7.0, -2.0]))
    reference = LogProbabilities(torch.tensor([-6.0, -4.0]), torch.tensor([-6.5, -2.0]))
    # 0.1 * ((-5 + 6) - (-7 + 6.5)) = 0.15, and no change at all for the second pair
    expected = [math.log1p(math.exp(-0.15)), math.log(2.0)]
    assert compute_preference_loss(policy, reference, beta=0.1).tolist() == pytest.approx(expected, abs=1e-6)


def sum_one_by_one(learner, prefix, completion):
    """The log-probability of an answer, from a plain pass over prompt and answer, with a softmax written out in float64."""
    tokens = [*prefix, *completion.tokens[: completion.start + 1], *completion.answer]
    with torch.no_grad():
        logits = learner.model(input_ids=torch.tensor([tokens])).logits[0].double().numpy()
    first = len(tokens) - len(completion.answer)
    total = 0.0
    for place in range(first, len(tokens)):
        row = logits[place - 1]
        top = row.max()
        total += row[tokens[place]] - top - math.log(np.exp(row - top).sum())
    return total


def make_pairs():
    chooser = np.random.default_rng(3)
    pairs = []
    for n_own, n_edited, n_draft in ((4, 3, 6), (9, 1, 1), (2, 8, 2)):
        own = tuple(chooser.integers(0, 500, n_own).tolist())
        answers = [tuple(chooser.integers(0, 500, n).tolist()) for n in (n_edited, n_draft)]
        pairs.append(Pair(*(build_text(own, answer, weight=0.5 + len(pairs)) for answer in answers)))
    return pairs


@pytest.mark.parametrize("limit", [1024, 16])
def test_packed_pairs_have_the_loss_of_the_published_formula_whatever_the_packs(limit, base_path):
    settings = DecoderSettings(**SETTINGS | {"preference_beta": 0.3, "preference_anchor": 0.5})
    learner = build_learner(base_path, settings)
    prefix, pairs = (11, 12, 13, 14), make_pairs()
    reference = compute_log_probabilities(learner, prefix, pairs, limit=limit, on_step=lambda done, total: None)
    with torch.no_grad():
        for name, value in learner.model.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.05, generator=torch.Generator().manual_seed(1))

    expected = 0.0
    for number, pair in enumerate(pairs):
        edited, draft = (sum_one_by_one(learner, prefix, answer) for answer in (pair.edited, pair.draft))
        margin = 0.3 * ((edited - float(reference.edited[number])) - (draft - float(reference.draft[number])))
        loss = -math.log(1.0 / (1.0 + math.exp(-margin)))
        expected += pair.edited.weight * (loss - 0.5 * edited / len(pair.edited.answer))

    packs = build_pair_packs(prefix, pairs, range(len(pairs)), limit=limit)
    with torch.no_grad():
        losses = [compute_pack_loss(learner.compute_logits(one.pack), one, reference, settings=settings) for one in packs]
    found = sum(map(float, losses))
    assert len(packs) == (1 if limit == 1024 else 3)
    assert abs(expected - 3 * math.log(2.0)) > 0.1  # the weights have moved
    assert found == pytest.approx(expected, rel=1e-5)


def test_every_pair_is_in_one_pack_with_both_answers():
    pairs = make_pairs()
    packs = build_pair_packs((1, 2), pairs, (0, 2, 1), limit=24)
    assert sorted(row for packed in packs for row in packed.rows) == [0, 1, 2]
    for packed in packs:
        assert packed.pack.completions == tuple(answer for row in packed.rows for answer in (pairs[row].edited, pairs[row].draft))
        assert packed.pack.tokens.shape[1] <= 24 or len(packed.rows) == 1


def test_the_edited_answer_gets_ahead_of_the_draft_and_the_figures_say_by_how_much(run):
    directory, figures = run(
        [*make_examples(), *make_examples(split="validation", word="blank")], epochs=2, **PREFERENCE | {"preference_epochs": 20}
    )
    preference = figures["preference"]
    assert (preference["n_pairs"], preference["n_held_out"]) == (10, 10)
    assert preference["accuracy_before"] < 0.6
    assert preference["accuracy_after"] == 1.0
    assert preference["margin"] > 0.2
    assert preference["share_gained"] == 1.0
    assert preference["held_out_accuracy_after"] > preference["held_out_accuracy_before"]
    assert preference["held_out_margin"] > 0.2
    assert preference["held_out_edited_change"] > 0.0
    assert preference["edited_change"] > 0.0 > preference["draft_change"]
    assert figures["validation"]["n"] == 10
    assert (directory / ADAPTER_FILE).exists()


def test_more_passes_grow_the_margin(run, tmp_path):
    margins = [
        run(make_examples(), directory=tmp_path / str(n), **PREFERENCE | {"preference_epochs": n})[1]["preference"]["margin"]
        for n in (1, 4, 12)
    ]
    assert margins == sorted(margins)
    assert margins[0] > 0.0


def test_without_pairs_the_step_is_skipped_and_the_record_says_so(run, tmp_path):
    bare = [replace(example, draft=draft) for example, draft in zip(make_examples(), [None, MaskedText("  ")] * 5, strict=True)]
    same = [replace(example, draft=example.summary) for example in make_examples()]
    off, no_figures = run(make_examples(), directory=tmp_path / "off")
    for number, examples in enumerate((bare, same)):
        directory, figures = run(examples, directory=tmp_path / str(number), **PREFERENCE)
        assert figures["preference"] == {"n_pairs": 0, "skipped": "0 pairs of draft and edit, and it needs 2"}
        assert (directory / ADAPTER_FILE).read_bytes() == (off / ADAPTER_FILE).read_bytes()
    assert no_figures["preference"]["skipped"] == "off: preference_epochs is 0"


def test_a_run_that_was_killed_while_learning_from_edits_ends_with_the_weights_of_one_that_was_not(run, base_path, tmp_path):
    whole, expected = run(make_examples(), directory=tmp_path / "whole", **PREFERENCE)
    script = f"""
        from pathlib import Path
        from tests.training.decoder.test_preference import *
        train_summary_decoder(
            make_examples(), base_gguf=Path({str(base_path)!r}), checkpoint_dir=Path({str(tmp_path / "killed")!r}),
            settings=DecoderSettings(**SETTINGS | PREFERENCE | {{"checkpoint_seconds": 0}}), run=RunInfo(prompt_version="summary-1"),
            on_progress=lambda progress: print(progress.phase, progress.step, flush=True), should_stop=lambda: False,
        )
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.strip() == "learning from edits 7":
                child.kill()
    assert child.returncode == -9

    seen = []
    resumed, figures = run(make_examples(), directory=tmp_path / "killed", on_progress=seen.append, **PREFERENCE)
    assert "training" not in {progress.phase for progress in seen}
    assert next(progress.step for progress in seen if progress.phase == "learning from edits") >= 7
    assert (resumed / ADAPTER_FILE).read_bytes() == (whole / ADAPTER_FILE).read_bytes()
    assert figures == expected


def test_a_cancelled_step_keeps_its_checkpoint_and_goes_on_from_it(run, tmp_path):
    whole, _ = run(make_examples(), directory=tmp_path / "whole", **PREFERENCE)
    seen = []

    def is_there():
        return seen[-1].phase == "learning from edits" and seen[-1].step == 3

    with pytest.raises(CancelledError):
        run(make_examples(), on_progress=seen.append, should_stop=is_there, checkpoint_seconds=0, **PREFERENCE)
    assert not (tmp_path / "run" / "bundle").exists()
    seen.clear()
    resumed, _ = run(make_examples(), on_progress=seen.append, **PREFERENCE)
    assert next(progress.step for progress in seen if progress.phase == "learning from edits") == 4
    assert (resumed / ADAPTER_FILE).read_bytes() == (whole / ADAPTER_FILE).read_bytes()


def test_supervised_passes_are_not_repeated_where_only_the_preference_step_is_new(run, tmp_path):
    run(make_examples())
    seen = []
    later, _ = run(make_examples(), on_progress=seen.append, **PREFERENCE)
    assert "training" not in {progress.phase for progress in seen}
    at_once, _ = run(make_examples(), directory=tmp_path / "at-once", **PREFERENCE)
    assert (later / ADAPTER_FILE).read_bytes() == (at_once / ADAPTER_FILE).read_bytes()


def test_a_checkpoint_of_other_drafts_is_not_gone_on_with(run):
    run(make_examples(), **PREFERENCE)
    seen = []
    others = [replace(example, draft=MaskedText("something else")) for example in make_examples()]
    run(others, on_progress=seen.append, **PREFERENCE)
    assert next(progress.step for progress in seen if progress.phase == "learning from edits") == 1


def test_figures_of_no_pairs_are_none():
    nothing = LogProbabilities(torch.zeros(0), torch.zeros(0))
    assert describe_preference(nothing, nothing, rows=(), beta=0.1) == {}


def test_measuring_leaves_dropout_as_it_was_and_uses_none(base_path):
    learner = build_learner(base_path, DecoderSettings(**SETTINGS | {"lora_dropout": 0.5}))
    with torch.no_grad():
        for name, value in learner.model.named_parameters():
            if "lora_B" in name:
                value.fill_(0.05)
    first, second = (
        compute_log_probabilities(learner, (1, 2), [PAIR], limit=64, on_step=lambda done, total: None) for _ in range(2)
    )
    assert torch.equal(first.edited, second.edited)
    assert learner.model.training
