"""Wrong labels planted into real tickets are found, and clean data raises few questions."""

import numpy as np
import pytest

from bot.data import demo_label_set, load_demo_tickets
from training.noise import N_FOLDS, find_suspects

NAMES = demo_label_set().names


def load(n):
    tickets = load_demo_tickets().stream[:n]
    return [ticket.text for ticket in tickets], np.array([NAMES.index(ticket.label) for ticket in tickets])


def plant(labels, share, seed=0):
    generator = np.random.default_rng(seed)
    bad = generator.choice(len(labels), int(share * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[bad] = (labels[bad] + generator.integers(1, len(NAMES), len(bad))) % len(NAMES)
    return wrong, set(bad.tolist())


def test_planted_wrong_labels_are_found_far_above_chance_and_the_right_one_is_suggested():
    texts, labels = load(800)
    wrong, bad = plant(labels, 0.05)
    suspects = find_suspects(texts, wrong, margin=0.5, n_labels=len(NAMES))
    hits = [suspect for suspect in suspects if suspect.row in bad]
    assert (
        len(hits) / len(suspects) >= 0.3
    )  # the tickets' own labels hold slips too: those are found as well and count as misses here
    assert len(hits) / len(bad) >= 0.25
    assert np.mean([suspect.suggested == labels[suspect.row] for suspect in hits]) >= 0.7
    margins = [suspect.margin for suspect in suspects]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] >= 0.5


def test_separable_tickets_with_right_labels_raise_no_question_and_wrong_ones_all_do():
    words = ["printer jam toner", "password reset login", "invoice payment refund"]
    texts = [f"{words[row % 3]} ticket {row}" for row in range(120)]
    labels = np.arange(120) % 3
    assert find_suspects(texts, labels, margin=0.3, n_labels=3) == []
    wrong = labels.copy()
    wrong[[4, 50]] = (labels[[4, 50]] + 1) % 3
    found = find_suspects(texts, wrong, margin=0.3, n_labels=3)
    assert {(suspect.row, suspect.suggested) for suspect in found} == {(4, labels[4]), (50, labels[50])}


def test_the_same_tickets_give_the_same_suspects():
    texts, labels = load(200)
    wrong, _ = plant(labels, 0.1)
    first, second = (find_suspects(texts, wrong, margin=0.2, n_labels=len(NAMES)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ([], []),
        (["a word"] * 3, [0, 1, 2]),
        (["some words"] * 20, [0] * 20),
        (["?"] * 20, [0, 1] * 10),
    ],
    ids=["nothing", "too few per label", "one label", "no words"],
)
def test_where_nothing_can_be_told_nobody_is_suspected(texts, labels):
    assert find_suspects(texts, np.array(labels, dtype=np.int64), margin=0.5, n_labels=3) == []


def test_rare_labels_are_not_judged_and_steps_are_reported():
    texts, labels = load(200)
    labels[0] = rare = len(NAMES)
    steps = []
    found = find_suspects(
        texts, labels, margin=0.1, n_labels=len(NAMES) + 1, on_step=lambda done, total: steps.append((done, total))
    )
    assert rare not in {suspect.suggested for suspect in found}
    assert 0 not in {suspect.row for suspect in found}
    assert steps == [(done, N_FOLDS) for done in range(N_FOLDS)]
