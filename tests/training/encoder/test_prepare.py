import numpy as np
import pytest

from bot.engine.settings import EngineSettings
from bot.training_settings import TrainingSettings
from bot.types import Label
from db.types import MaskedText
from training.encoder.prepare import choose_epochs, choose_rate, compute_fingerprint, prepare
from training.encoder.settings import EncoderSettings, build_encoder_settings
from training.encoder.types import TrainExample, TrainingDataError

LABELS = [Label("a"), Label("b"), Label("c")]
SETTINGS = EncoderSettings()


def make(n, label="a", **values):
    return [TrainExample(MaskedText(f"text {label} {place}"), label, **values) for place in range(n)]


def test_no_example_is_refused():
    with pytest.raises(TrainingDataError, match="nothing to learn"):
        prepare([], LABELS, SETTINGS)


def test_only_not_this_examples_are_refused():
    with pytest.raises(TrainingDataError, match="nothing to learn"):
        prepare(make(5, is_negative=True), LABELS, SETTINGS)


def test_unknown_label_is_refused_by_name_without_the_text():
    with pytest.raises(TrainingDataError, match="example 1 has the label 'zz'") as caught:
        prepare([*make(1), *make(1, "zz")], LABELS, SETTINGS)
    assert "text zz" not in str(caught.value)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_bad_weight_is_refused(weight):
    with pytest.raises(TrainingDataError, match="example 0 has the weight"):
        prepare(make(3, weight=weight), LABELS, SETTINGS)


def test_empty_and_doubled_label_sets_are_refused():
    with pytest.raises(TrainingDataError, match="empty"):
        prepare(make(1), [], SETTINGS)
    with pytest.raises(TrainingDataError, match="same name"):
        prepare(make(1), [Label("a"), Label("a")], SETTINGS)


def test_weight_zero_leaves_an_example_out_and_weights_have_mean_one():
    prepared = prepare([*make(2, weight=3.0), *make(1, "b", weight=1.0), *make(4, "c", weight=0.0)], LABELS, SETTINGS)
    assert len(prepared.texts) == 3
    assert prepared.targets.weight.mean() == pytest.approx(1.0)
    assert prepared.is_absent.tolist() == [False, False, True]


def test_label_that_occurs_only_as_not_this_counts_as_absent():
    prepared = prepare([*make(3), *make(2, "b", is_negative=True)], LABELS, SETTINGS)
    assert prepared.is_absent.tolist() == [False, True, True]


def get_held_out(examples, **values):
    return [part.held_out.tolist() for part in prepare(examples, LABELS, SETTINGS.model_copy(update=values)).parts]


def test_few_examples_make_no_trial():
    assert get_held_out([*make(1), *make(1, "b")]) == []


def test_every_example_is_held_out_once_and_labels_are_spread_evenly():
    prepared = prepare([*make(80), *make(6, "b"), *make(1, "c")], LABELS, SETTINGS)
    assert sorted(row for part in prepared.parts for row in part.held_out) == list(range(87))
    for part in prepared.parts:
        assert np.bincount(prepared.targets.label[part.learnt], minlength=3)[:2].tolist() == [40, 3]
        assert set(part.learnt) | set(part.held_out) == set(range(87))
        assert not set(part.learnt) & set(part.held_out)


def test_enough_given_validation_examples_are_the_only_held_out_ones():
    assert get_held_out([*make(300), *make(160, "b", split="validation"), *make(10, "b")]) == [list(range(300, 460))]


def test_too_few_given_ones_are_part_of_the_folds():
    assert len(get_held_out([*make(60), *make(10, "b", split="validation")])) == 2


def test_of_very_many_some_are_held_out():
    assert [len(rows) for rows in get_held_out([*make(2500), *make(2500, "b")])] == [400]


def test_not_this_examples_are_never_held_out_but_always_learnt_from():
    prepared = prepare([*make(50), *make(50, "b", is_negative=True)], LABELS, SETTINGS)
    for part in prepared.parts:
        assert part.held_out.max() < 50
        assert set(range(50, 100)) <= set(part.learnt.tolist())


def test_the_same_examples_give_the_same_parts_and_another_seed_others():
    examples = [*make(60), *make(60, "b")]
    assert get_held_out(examples) == get_held_out(examples) != get_held_out(examples, seed=1)


def test_fingerprint_changes_with_data_and_recipe_but_not_with_threads():
    def get(examples=(), **values):
        settings = SETTINGS.model_copy(update=values)
        return compute_fingerprint(prepare([*make(20), *examples], LABELS, settings), base_digest="0", settings=settings)

    assert get() == get(threads=7)
    assert len({get(), get(make(1, "b")), get(make(1, weight=2.0)), get(learning_rate=0.5), get(seed=3)}) == 5


def test_learning_rate_is_gentler_where_labels_have_few_examples():
    many = choose_rate(prepare([*make(200), *make(200, "b")], LABELS, SETTINGS), SETTINGS)
    few = choose_rate(prepare([*make(8), *make(8, "b")], LABELS, SETTINGS), SETTINGS)
    assert few < many
    assert choose_rate(prepare(make(5), LABELS, SETTINGS), SETTINGS.model_copy(update={"learning_rate": 0.5})) == 0.5


def test_few_examples_are_gone_through_more_often_and_so_are_labels_with_few():
    def get(n, n_labels, **values):
        labels = [Label(str(place)) for place in range(n_labels)]
        examples = [TrainExample(MaskedText(str(place)), str(place % n_labels)) for place in range(n)]
        return choose_epochs(prepare(examples, labels, SETTINGS), SETTINGS.model_copy(update=values))

    assert get(100, 2) > get(300, 2) > get(1000, 2) > get(5000, 2) >= 2
    assert get(1000, 100) > get(1000, 2)
    assert get(100, 2, epochs=1) == 1


def test_deployment_settings_override_the_recipe_only_where_set():
    plain = build_encoder_settings(TrainingSettings(), EngineSettings())
    assert plain.learning_rate is None
    assert plain.epochs is None
    chosen = build_encoder_settings(TrainingSettings(learning_rate=1e-4, epochs=2, r=4, seed=9), EngineSettings(text_tokens=64))
    assert (chosen.learning_rate, chosen.epochs, chosen.r, chosen.seed, chosen.text_tokens) == (1e-4, 2, 4, 9, 64)
