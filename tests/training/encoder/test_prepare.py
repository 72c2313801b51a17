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


def test_few_examples_hold_nothing_out():
    assert len(prepare([*make(1), *make(1, "b")], LABELS, SETTINGS).held_out) == 0


def test_held_out_rows_leave_every_label_most_of_its_examples():
    prepared = prepare([*make(80), *make(5, "b"), *make(1, "c")], LABELS, SETTINGS)
    left = np.bincount(prepared.targets.label[prepared.learnt], minlength=3)
    assert len(prepared.held_out) == 21
    assert left[1] >= 3
    assert left[2] == 1
    assert sorted([*prepared.learnt, *prepared.held_out]) == list(range(86))


def test_given_validation_examples_are_the_held_out_ones():
    prepared = prepare([*make(300), *make(160, "b", split="validation"), *make(10, "b")], LABELS, SETTINGS)
    assert prepared.held_out.tolist() == list(range(300, 460))


def test_validation_examples_of_a_label_without_others_are_learnt_from():
    prepared = prepare([*make(300), *make(70, split="validation"), *make(1, "b", split="validation")], LABELS, SETTINGS)
    assert 370 not in prepared.held_out


def test_not_this_examples_are_never_held_out():
    prepared = prepare([*make(50), *make(50, "b", is_negative=True)], LABELS, SETTINGS)
    assert prepared.held_out.max() < 50


def test_the_same_examples_give_the_same_parts_and_another_seed_others():
    examples = [*make(60), *make(60, "b")]
    first, second = prepare(examples, LABELS, SETTINGS), prepare(examples, LABELS, SETTINGS)
    other = prepare(examples, LABELS, SETTINGS.model_copy(update={"seed": 1}))
    assert first.held_out.tolist() == second.held_out.tolist() != other.held_out.tolist()


def test_learning_rate_is_gentler_where_labels_have_few_examples():
    many = choose_rate(prepare([*make(200), *make(200, "b")], LABELS, SETTINGS), SETTINGS)
    few = choose_rate(prepare([*make(8), *make(8, "b")], LABELS, SETTINGS), SETTINGS)
    assert few < many
    assert choose_rate(prepare(make(5), LABELS, SETTINGS), SETTINGS.model_copy(update={"learning_rate": 0.5})) == 0.5


def test_fingerprint_changes_with_data_and_recipe_but_not_with_threads():
    def get(examples=(), **values):
        settings = SETTINGS.model_copy(update=values)
        return compute_fingerprint(prepare([*make(20), *examples], LABELS, settings), base_digest="0", settings=settings)

    assert get() == get(threads=7)
    assert len({get(), get(make(1, "b")), get(make(1, weight=2.0)), get(learning_rate=0.5), get(seed=3)}) == 5


def test_few_examples_are_gone_through_more_often():
    assert choose_epochs(50, SETTINGS) > choose_epochs(300, SETTINGS) > choose_epochs(5000, SETTINGS) >= 2
    assert choose_epochs(50, SETTINGS.model_copy(update={"epochs": 1})) == 1


def test_deployment_settings_override_the_recipe_only_where_set():
    plain = build_encoder_settings(TrainingSettings(), EngineSettings())
    assert plain.learning_rate is None
    assert plain.epochs is None
    chosen = build_encoder_settings(TrainingSettings(learning_rate=1e-4, epochs=2, r=4, seed=9), EngineSettings(text_tokens=64))
    assert (chosen.learning_rate, chosen.epochs, chosen.r, chosen.seed, chosen.text_tokens) == (1e-4, 2, 4, 9, 64)
