"""What a run asks people about, and what it leaves out until they have answered."""

import pytest

from bot.data import demo_label_set
from bot.training_settings import TrainingSettings
from db.queries import review
from db.queries.answers import resolve
from db.queries.examples import NewExample, add_examples, iterate_examples, record_splits
from db.queries.lineage import erase_examples
from db.session import transaction
from db.types import ReviewKind, Split, TaskKind
from tests.support.db_rows import add_feedback, add_inference, add_ticket
from training.dataset import build_dataset
from training.questions import SUSPICIOUS, ask_questions, check_labels

LABELS = ("access", "hardware", "billing")
WORDS = {"access": "password reset login locked", "hardware": "printer jam toner cable", "billing": "invoice payment refund card"}
CLASSIFICATION = TaskKind.CLASSIFICATION
FILLER = "monday office floor team again since morning urgent thanks help window desk floor meeting noon cable phone".split()


def make_text(number, label):
    filler = " ".join(FILLER[(number * step + step) % len(FILLER)] + str(number * step) for step in range(1, 6))
    return f"{WORDS[label]} {filler}"


def fill(db_engine, n=150, wrong=()):
    rows = []
    for number in range(n):
        label = LABELS[number % 3]
        target = LABELS[(number + 1) % 3] if number in wrong else label
        rows.append(NewExample(text=make_text(number, label), target=target))
    with transaction(db_engine) as session:
        add_examples(session, rows, task=CLASSIFICATION, label_set_version="v1", actor="test")


def check(db_engine, *, settled=frozenset(), **settings):
    chosen = TrainingSettings(**settings)

    def rows():
        with transaction(db_engine, is_read_only=True) as session:
            yield from iterate_examples(session, CLASSIFICATION, has_withdrawn=True)

    dataset = build_dataset(rows, CLASSIFICATION, labels=LABELS, settings=chosen)
    return check_labels(dataset, labels=LABELS, settings=chosen, settled=settled)


def ask(db_engine, checked, **settings):
    return ask_questions(
        db_engine, checked, labels=LABELS, label_set_version="v1", settings=TrainingSettings(**settings), run_id=None
    )


def list_open(db_engine, kind):
    with transaction(db_engine, is_read_only=True) as session:
        items = review.list_items(session, kind=kind)
        sides = review.list_sides(session, [item.id for item in items])
        return [(item.id, [(side.actor, side.label, side.example_id) for side in sides[item.id]]) for item in items]


def test_a_wrong_label_is_asked_about_once_with_what_the_others_say_and_is_still_trained_on(db_engine):
    fill(db_engine, wrong={10})
    checked = check(db_engine)
    assert ask(db_engine, checked) == {"label_noise": 1}
    assert ask(db_engine, check(db_engine)) == {}
    ((_, sides),) = list_open(db_engine, ReviewKind.LABEL_NOISE)
    assert sides == [("import", "billing", 11), ("model", "hardware", None)]
    assert 11 in {item.id for item in checked.dataset.train}


def test_nobody_is_asked_about_a_suspect_that_was_erased_since_it_was_read(db_engine):
    fill(db_engine, wrong={10})
    checked = check(db_engine)
    assert [item.id for item, _ in checked.suspects] == [11]
    with transaction(db_engine) as session:
        erase_examples(session, example_ids=[11], actor="ana", reason="asked for")
    assert ask(db_engine, checked) == {}


def test_where_the_setting_says_so_a_suspect_is_not_taught_until_it_is_settled(db_engine):
    fill(db_engine, wrong={10})
    checked = check(db_engine, noise_action="leave_out")
    before = check(db_engine, noise_action="off").dataset
    assert 11 in {item.id for item in before.train}
    assert 11 not in {item.id for item in checked.dataset.train}
    assert checked.dataset.report.left_out[SUSPICIOUS] == 1
    assert checked.dataset.report.n_train == before.report.n_train - 1
    assert checked.dataset.digest != before.digest
    ask(db_engine, checked)
    with transaction(db_engine) as session:
        review.dismiss(session, review.list_items(session)[0].id, actor="lead", reason="the label is right")
        settled = frozenset(review.list_settled_examples(session, ReviewKind.LABEL_NOISE))
    again = check(db_engine, settled=settled, noise_action="leave_out")
    assert again.suspects == ()
    assert 11 in {item.id for item in again.dataset.train}


def test_resolving_a_suspect_gives_the_next_run_the_right_label(db_engine):
    fill(db_engine, wrong={10})
    ask(db_engine, check(db_engine))
    with transaction(db_engine) as session:
        resolve(session, review.list_items(session)[0].id, label="hardware", actor="lead", label_set_version="v1")
    checked = check(db_engine)
    (corrected,) = [item for item in checked.dataset.train if item.text == make_text(10, "hardware")]
    assert corrected.target == "hardware"
    assert checked.suspects == ()


def test_what_judges_is_questioned_but_never_left_out(db_engine):
    fill(db_engine, wrong={10})
    with transaction(db_engine) as session:
        record_splits(session, {11: Split.TEST})
    checked = check(db_engine, noise_action="leave_out")
    assert [item.id for item, _ in checked.suspects] == [11]
    assert 11 in {item.id for item in checked.dataset.test}
    assert SUSPICIOUS not in checked.dataset.report.left_out


def test_golden_examples_and_handoffs_are_not_suspected(db_engine):
    fill(db_engine, wrong={10, 20})
    with transaction(db_engine) as session:
        for row in list(iterate_examples(session, CLASSIFICATION)):
            if row.id in (11, 21):
                session.add(row)
                row.split, row.is_negative = (Split.GOLDEN, False) if row.id == 11 else (None, True)
    assert check(db_engine).suspects == ()


def test_equal_texts_with_two_labels_are_a_contradiction_asked_once(db_engine):
    fill(db_engine)
    with transaction(db_engine) as session:
        rows = [NewExample(text="my badge is gone", target=label) for label in ("access", "hardware")]
        add_examples(session, rows, task=CLASSIFICATION, label_set_version="v1", actor="test")
    checked = check(db_engine)
    assert ask(db_engine, checked) == {"contradiction": 1}
    assert ask(db_engine, checked) == {}
    ((_, sides),) = list_open(db_engine, ReviewKind.CONTRADICTION)
    assert [label for _, label, _ in sides] == ["access", "hardware"]


def test_questions_beyond_the_limit_are_asked_by_the_next_run(db_engine):
    fill(db_engine)
    with transaction(db_engine) as session:
        rows = [NewExample(text=f"badge {n} is gone", target=label) for n in range(5) for label in ("access", "hardware")]
        add_examples(session, rows, task=CLASSIFICATION, label_set_version="v1", actor="test")
    checked = check(db_engine)
    asked = [ask(db_engine, checked, review_max_questions=2) for _ in range(4)]
    assert asked == [{"contradiction": 2}, {"contradiction": 2}, {"contradiction": 1}, {}]


@pytest.mark.parametrize(("second", "kind"), [("bo", "reviewer_disagreement"), ("ana", "contradiction")])
def test_nearly_equal_tickets_decided_differently_are_a_disagreement_where_two_people_did_it(db_engine, second, kind):
    fill(db_engine)
    text = "the badge reader at the north gate does not open any more since the power cut last night"
    with transaction(db_engine) as session:
        for ending, actor, label in (("", "ana", "access"), (" please", second, "hardware")):
            inference = add_inference(session, add_ticket(session, text=text + ending), label=label)
            add_feedback(session, inference, actor=actor)
    checked = check(db_engine)
    assert checked.dataset.report.contradictions == ()
    assert checked.dataset.report.disagreements == ((151, 152),)
    assert ask(db_engine, checked) == {kind: 1}


def test_unsure_answers_without_a_decision_are_asked_about_up_to_the_limit(db_engine):
    fill(db_engine)
    with transaction(db_engine) as session:
        for confidence in (0.1, 0.2, 0.3, 0.9):
            add_inference(session, confidence=confidence)
    checked = check(db_engine)
    assert ask(db_engine, checked, review_below=0.0) == {}
    assert ask(db_engine, checked, review_below=0.5, review_max_questions=2) == {"low_confidence": 2}
    assert ask(db_engine, checked, review_below=0.5) == {"low_confidence": 1}


def test_a_run_keeps_a_card_and_counts_its_questions(make_site, monkeypatch):
    from tests.training.test_pipeline import fake_train, make_judge
    from training import pipeline

    monkeypatch.setattr(pipeline, "train", fake_train)
    monkeypatch.setattr(pipeline, "judge", make_judge(0.9, 0.3))
    names = demo_label_set().names
    site = make_site(gate_max_ece=0.9, noise_margin=0.2)
    site.add_tickets(150, relabel=lambda place, label: names[(names.index(label) + 1) % len(names)] if place % 20 == 0 else label)
    run_id = site.enqueue()
    pipeline.run_training(run_id, site.settings, stop=site.stop)
    row = site.get_run(run_id)
    assert row.data_counts["n_questions"]["label_noise"] >= 1
    card = (site.settings.runs_dir / str(run_id) / "dataset.json").read_text()
    assert row.data_digest in card
    assert site.read(review.count_open)[ReviewKind.LABEL_NOISE] >= 1
