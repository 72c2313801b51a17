"""Which examples a decoder's calibration is fitted on."""

import numpy as np

from bot.types import Label
from db.types import MaskedText
from training.decoder.holdout import choose_holdout
from training.encoder.prepare import prepare
from training.encoder.settings import EncoderSettings
from training.encoder.types import TrainExample

LABELS = (Label(name="a"), Label(name="b"), Label(name="c"))


def make(n, label="a", **values):
    return [TrainExample(MaskedText(f"ticket {number} about {label}"), label, **values) for number in range(n)]


def choose(examples, share=0.2):
    prepared = prepare(examples, LABELS, EncoderSettings())
    return prepared, choose_holdout(prepared, examples, share=share, seed=0)


def test_few_examples_are_all_learnt_from():
    _, part = choose([*make(8), *make(4, "b")])
    assert part.learnt.tolist() == list(range(12))
    assert len(part.held_out) == 0


def test_the_asked_share_is_held_out_and_every_label_keeps_an_example():
    prepared, part = choose([*make(80), *make(18, "b"), *make(1, "c"), *make(1, "c", weight=0.0)])
    assert len(part.held_out) == int(0.2 * 99)
    assert np.bincount(prepared.targets.label[part.learnt], minlength=3).min() >= 1
    assert sorted([*part.learnt, *part.held_out]) == list(range(99))


def test_all_examples_given_for_validation_are_held_out_but_the_only_one_of_a_label():
    _, part = choose([*make(60), *make(30, "b", split="validation"), *make(1, "b"), *make(1, "c", split="validation")])
    assert set(range(60, 90)) <= set(part.held_out.tolist())
    assert 91 in part.learnt


def test_not_this_examples_are_never_held_out():
    _, part = choose([*make(50), *make(50, "b", is_negative=True, split="validation")], share=0.4)
    assert len(part.held_out) == 20
    assert part.held_out.max() < 50
