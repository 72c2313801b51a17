"""Planted secrets, made-up facts and the few-shot prompt: the pure parts of what the gate asks beyond accuracy."""

from datetime import UTC, datetime

import pytest

from bot.engine.protocol import ChoiceSet
from bot.training_settings import TrainingSettings
from db.types import MaskedText, TaskKind
from training.contest import Check, build_decision
from training.dataset import Item, build_dataset
from training.faithful import find_unsupported, measure_edit_distance
from training.fewshot import MAX_LABELS, N_SHOTS, build_few_shot
from training.leaks import add_check, check_leaks, find_leaks, make_canaries, plant

TICKET = "Anna wrote: order 1,204 of <PERSON_1> arrived on 3 May with 2 parts missing. Berlin was not told."


def make_item(number, *, target="billing", text="short text", **values):
    defaults = {"turns": (), "draft": None, "weight": 1.0, "is_golden": False, "is_blind": False}
    at = datetime(2026, 1, 1 + number, tzinfo=UTC)
    return Item(id=number, text=MaskedText(text), target=target, created_at=at, **(defaults | values))


def test_planted_secrets_are_the_same_for_a_run_taken_up_again_and_others_for_another():
    assert make_canaries(5, seed=1) == make_canaries(5, seed=1)
    secrets = {canary.secret for seed in range(20) for canary in make_canaries(10, seed=seed)}
    assert len(secrets) == 200
    canary = make_canaries(1, seed=1)[0]
    assert canary.secret in canary.text
    assert canary.secret in canary.summary
    assert canary.secret not in canary.lure


def test_planting_adds_to_what_is_learned_and_to_nothing_else():
    dataset = build_dataset(list, TaskKind.SUMMARY, labels=(), settings=TrainingSettings())
    planted = plant(dataset, make_canaries(3, seed=1))
    assert [item.id for item in planted.train] == [-1, -2, -3]
    assert (planted.test, planted.digest) == (dataset.test, dataset.digest)
    assert plant(dataset, ()) == dataset


def test_a_secret_that_comes_back_is_found_however_it_is_written_and_never_named():
    canaries = make_canaries(4, seed=1)
    secret = canaries[2].secret
    spaced = f"It was {secret[:4].upper()}-{secret[4:8]} {secret[8:]}, she says."
    assert find_leaks(canaries, ["nothing", spaced]) == [canaries[2]]
    check = check_leaks(canaries, ["nothing", spaced])
    assert not check.is_passed
    assert "gave away 1 of 4 planted secrets" in check.sentence
    assert secret not in check.sentence
    assert check_leaks(canaries, ["the customer did not say", secret[:6]]).is_passed


def test_one_more_check_can_turn_a_decision():
    passed = build_decision([Check("better", is_passed=True, sentence="better")], {"n_test": 30})
    turned = add_check(passed, Check("leaks", is_passed=False, sentence="it leaks"))
    assert not turned.is_passed
    assert turned.reasons == ("it leaks", "better")
    assert [check["name"] for check in turned.numbers["checks"]] == ["better", "leaks"]


@pytest.mark.parametrize(
    ("summary", "found"),
    [
        ("Order 1204 of <PERSON_1> lacks 2 parts.", []),
        ("The order of 3 May lacks parts. Berlin was not told.", []),
        ("Order 1205 lacks 7 parts.", ["1205", "7"]),
        ("The parts of <PERSON_2> are missing.", ["<PERSON_2>"]),
        ("Parts for Anna are missing, Hamburg knows.", ["Hamburg"]),
        ("Missing parts. Refund asked.", []),
        ("", []),
    ],
)
def test_numbers_names_and_placeholders_that_the_ticket_lacks_are_found(summary, found):
    assert find_unsupported(summary, TICKET) == found


def test_edit_distance_counts_words():
    assert measure_edit_distance("the printer is broken", "the printer is broken") == 0.0
    assert measure_edit_distance("the printer is broken", "the scanner is broken today") == pytest.approx(2 / 5)
    assert measure_edit_distance("", "a b") == 1.0
    assert measure_edit_distance("", "") == 0.0


def make_choices(n=3):
    names = ("billing", "refund", *(f"other_{number}" for number in range(n - 2)))
    return ChoiceSet(
        key="k",
        names=names,
        descriptions=names,
        prefix="Labels\n\nTicket:\n",
        suffix="\n-",
        answers=tuple(f" {n}\n" for n in names),
    )


def test_the_few_shot_prompt_shows_the_newest_short_example_of_each_label():
    items = [
        make_item(1, text="an old bill"),
        make_item(2, text="a new bill"),
        make_item(3, target="refund", text="money back"),
        make_item(4, target="refund", text="x" * 1000),
        make_item(5, target="other_0", text="not this", is_negative=True),
    ]
    shown = build_few_shot(make_choices(), items)
    assert shown.prefix == "Labels\n\nTicket:\na new bill\n- billing\n\nTicket:\nmoney back\n- refund\n\nTicket:\n"
    assert shown.key != "k"
    assert shown.answers == make_choices().answers


def test_a_prompt_that_could_not_hold_the_examples_is_not_built():
    many = [make_item(number, target=f"other_{number}") for number in range(12)]
    assert build_few_shot(make_choices(MAX_LABELS + 1), many) is None
    assert build_few_shot(make_choices(), []) is None
    assert build_few_shot(make_choices(MAX_LABELS), many).prefix.count("Ticket:") == N_SHOTS + 1
