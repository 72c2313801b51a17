"""What a dataset may hold: no leak between its parts, nothing golden taught, contradictions and new personal data out."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bot.training_settings import TrainingSettings
from db.tables import Example
from db.types import Split, TaskKind
from training import columns
from training.dataset import HAS_NEW_PERSONAL_DATA, LEAKS, build_dataset
from training.dedupe import Signer, normalise

LABELS = ("access", "hardware", "billing")
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = """printer laptop password invoice screen keyboard account refund order email server network monitor cable payment card
router login folder office desk phone update install error window report driver battery mouse dock license token badge""".split()


def make_text(number):
    picked = np.random.default_rng(number).choice(WORDS, 14)
    return f"ticket about {' '.join(picked)} number {number * 7919 % 1000}"


def make_example(number, target=None, **more):
    values = {
        "id": number,
        "task": TaskKind.CLASSIFICATION,
        "text": make_text(number),
        "target": target or LABELS[number % 3],
        "created_at": START + timedelta(minutes=number),
        **more,
    }
    return Example(**values)


def build(examples, *, check=None, labels=LABELS, task=TaskKind.CLASSIFICATION, **settings):
    return build_dataset(lambda: iter(examples), task, labels=labels, settings=TrainingSettings(**settings), check=check)


def ids(items):
    return {item.id for item in items}


def apply(examples, dataset):
    for example in examples:
        example.split = dataset.assignments.get(example.id, example.split)


def test_a_plain_set_is_split_by_time_within_each_label():
    dataset = build([make_example(number) for number in range(1, 301)])
    assert dataset.report.is_enough
    assert dataset.report.n_train > dataset.report.n_test > dataset.report.n_validation > 0
    assert {item.target for item in dataset.test} == set(LABELS)
    for label in LABELS:
        newest_taught = max(item.id for item in dataset.train if item.target == label)
        assert newest_taught < min(item.id for item in dataset.test if item.target == label)


def test_near_duplicates_and_tickets_of_one_group_never_straddle():
    examples = [make_example(number, group_key=f"customer-{number % 60}") for number in range(1, 241)]
    examples += [
        make_example(number + 1000, text=make_text(number) + " please", target=LABELS[number % 3]) for number in range(1, 241, 3)
    ]
    dataset = build(examples)
    by_id = {example.id: example for example in examples}
    signer = Signer()
    parts = [dataset.train, dataset.validation, dataset.test]
    signatures = [[signer.sign(normalise(item.text)) for item in part] for part in parts]
    for first in range(3):
        for second in range(first + 1, 3):
            groups = [{by_id[item.id].group_key for item in parts[part]} - {""} for part in (first, second)]
            assert not groups[0] & groups[1]
            assert not any((one == other).mean() >= 0.8 for one in signatures[first] for other in signatures[second])


def test_an_assignment_never_changes_when_more_examples_come():
    examples = [make_example(number) for number in range(1, 201)]
    first = build(examples)
    apply(examples, first)
    before = {example.id: example.split for example in examples}
    later = build([*examples, *(make_example(number) for number in range(201, 401))])
    assert not set(later.assignments) & {number for number, split in before.items() if split is not None}
    assert ids(first.test) <= ids(later.test)
    assert not ids(first.test) & ids(later.train)


def test_the_same_rows_give_the_same_digest_and_another_label_gives_another():
    examples = [make_example(number) for number in range(1, 101)]
    first = build(examples)
    apply(examples, first)
    assert build(examples).digest == first.digest
    examples[50].target = "billing" if examples[50].target != "billing" else "access"
    assert build(examples).digest != first.digest


def test_golden_and_blind_examples_judge_and_are_never_taught():
    examples = [make_example(number) for number in range(1, 201)]
    for example in examples[:20]:
        example.split = Split.GOLDEN
    for example in examples[20:30]:
        example.is_blind = True
    copies = [make_example(500 + n, text=examples[n].text + " thanks", target=examples[n].target) for n in range(5)]
    dataset = build([*examples, *copies])
    assert {example.id for example in examples[:30]} <= ids(dataset.test)
    assert not ids(copies) & ids(dataset.train + dataset.validation)
    assert dataset.report.n_golden == 20
    assert dataset.report.left_out[LEAKS] == 5


def test_equal_strength_contradictions_are_left_out_and_named_for_review():
    examples = [make_example(number) for number in range(1, 101)]
    examples += [
        make_example(501, "access", text="My Printer  is broken"),
        make_example(502, "hardware", text="my printer is broken"),
    ]
    dataset = build(examples)
    assert not {501, 502} & ids(dataset.train + dataset.validation + dataset.test)
    assert dataset.report.contradictions == ((501, 502),)
    assert dataset.report.left_out[columns.CONTRADICTION] == 2


def test_a_demonstration_overrules_accepts_of_the_same_text():
    examples = [make_example(number) for number in range(1, 101)]
    examples += [make_example(501 + n, "access", text="my printer is broken", weight=0.5) for n in range(3)]
    examples.append(make_example(510, "hardware", text="my printer is broken", weight=1.0))
    dataset = build(examples)
    kept = [item for item in dataset.train + dataset.validation + dataset.test if item.id > 500]
    assert [(item.id, item.target) for item in kept] == [(510, "hardware")]
    assert dataset.report.left_out[columns.OVERRULED] == 3
    assert dataset.report.contradictions == ()


def test_placeholders_of_other_numbers_do_not_make_a_text_new():
    examples = [make_example(number) for number in range(1, 101)]
    examples += [
        make_example(501, "access", text="<PERSON_1> lost a badge"),
        make_example(502, "access", text="<PERSON_7> lost a badge"),
    ]
    dataset = build(examples)
    assert dataset.report.left_out[columns.DUPLICATE] == 1


def test_withdrawn_and_unknown_labels_are_left_out_with_their_reason():
    examples = [make_example(number) for number in range(1, 101)]
    examples[0].is_withdrawn = True
    examples[2].target = "retired label"
    report = build(examples).report
    assert report.left_out == {columns.WITHDRAWN: 1, columns.UNKNOWN_LABEL: 1}
    assert report.unknown_labels == {"retired label": 1}


def test_an_example_in_which_a_newer_masker_finds_something_is_refused_and_counted():
    examples = [make_example(number) for number in range(1, 101)]
    examples[7].text = "please call Maria Example about the printer"
    dataset = build(examples, check=lambda text: "Maria" in text)
    assert 8 not in ids(dataset.train + dataset.validation + dataset.test)
    assert dataset.report.left_out == {HAS_NEW_PERSONAL_DATA: 1}


@pytest.mark.parametrize(
    ("n", "labels", "sentence"),
    [
        (0, LABELS, "nothing to train on: needs 50 more examples, have 0 over 0 labels"),
        (30, LABELS, "nothing to train on: needs 20 more examples, have 30 over 3 labels"),
        (90, LABELS[:1], "nothing to train on: needs 2 labels with two examples or more, have 1 (of 30 examples)"),
    ],
)
def test_too_little_is_an_answer_that_says_what_is_missing(n, labels, sentence):
    report = build([make_example(number) for number in range(1, n + 1)], labels=labels, min_examples=30 if n == 90 else 50).report
    assert not report.is_enough
    assert report.message == sentence
    assert report.to_dry_run().message == sentence


def test_a_small_set_keeps_enough_tickets_to_be_judged_on():
    report = build([make_example(number) for number in range(1, 61)]).report
    assert report.is_enough
    assert report.n_test >= 20


def test_the_newest_half_and_a_sample_over_all_labels_replay_when_there_is_more_than_the_limit():
    examples = [make_example(number, "access" if number % 10 else "billing") for number in range(1, 601)]
    dataset = build(examples, max_examples=100, near_duplicate=1.0)
    assert dataset.report.n_train == 100
    older = sorted(item.id for item in dataset.train)[:50]
    assert sum(number % 10 == 0 for number in older) > 10


def test_summaries_have_no_contradictions_only_a_strongest_and_newest():
    examples = [make_example(number, f"summary {number}", task=TaskKind.SUMMARY) for number in range(1, 101)]
    examples += [make_example(501 + n, f"version {n}", task=TaskKind.SUMMARY, text="one conversation") for n in range(3)]
    dataset = build(examples, task=TaskKind.SUMMARY)
    kept = [item for item in dataset.train + dataset.validation + dataset.test if item.id > 500]
    assert [item.target for item in kept] == ["version 2"]
    assert dataset.report.contradictions == ()


def test_handoffs_teach_what_a_ticket_is_not_and_never_judge():
    examples = [make_example(number) for number in range(1, 101)]
    examples += [make_example(number, is_negative=True) for number in range(501, 511)]
    dataset = build(examples)
    assert {item.id for item in dataset.train if item.is_negative} == set(range(501, 511))
    assert not any(item.is_negative for item in dataset.validation + dataset.test)
    assert (dataset.report.n_negative, dataset.report.n_train) == (10, len(dataset.train) - 10)
    assert not set(dataset.assignments) & set(range(501, 511))


def test_a_blind_handoff_teaches_nothing_as_nobody_had_seen_what_it_would_speak_against():
    examples = [make_example(number) for number in range(1, 101)]
    examples += [make_example(number, is_negative=True, is_blind=True) for number in range(501, 511)]
    dataset = build(examples)
    assert not ids(dataset.train + dataset.validation + dataset.test) & set(range(501, 511))
    assert dataset.report.left_out == {columns.NEGATIVE_UNSEEN: 10}


def test_where_only_one_label_may_be_learned_from_there_is_nothing_to_train_on():
    examples = [make_example(number, target=LABELS[0]) for number in range(1, 61)]
    examples += [make_example(number, target=LABELS[number % 2], split=Split.GOLDEN) for number in range(501, 561)]
    report = build(examples).report
    assert not report.is_enough
    assert "what may be learned from carries 1 label, it needs 2" in report.message


def test_a_handoff_yields_to_a_decision_on_the_same_text_and_stays_away_from_what_judges():
    examples = [make_example(number) for number in range(1, 101)]
    judged = build(examples).test[0]
    examples.append(make_example(501, is_negative=True, text=make_text(7)))
    examples.append(make_example(502, is_negative=True, text=judged.text + " again"))
    dataset = build(examples)
    assert not {501, 502} & ids(dataset.train)
    assert dataset.report.left_out == {columns.OVERRULED: 1, LEAKS: 1}
