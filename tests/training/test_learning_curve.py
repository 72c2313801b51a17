"""The learning curve: nested subsets, sizes that make sense, and points that come from real trainings of a tiny base."""

import json

import pytest

from bot.errors import UserError
from bot.settings import Settings
from db.types import MaskedText
from tests.support.tiny_encoder import make_tiny_encoder
from training.learning_curve import (
    choose_sizes,
    compute_gain_per_doubling,
    draw_nested,
    evaluate_curve,
    parse_sizes,
    plot_curve,
)

from .encoder.conftest import WORDS, make_examples


@pytest.fixture
def files(tmp_path):
    """Write label set, train and test file; return their paths."""
    labels = tmp_path / "labels.yaml"
    labels.write_text("name: test\nlabels:\n" + "".join(f"  - name: {name}\n" for name in WORDS))
    for name, n, seed in (("train", 60, 0), ("test", 45, 1)):
        lines = [{"id": str(at), "text": item.text, "label": item.label} for at, item in enumerate(make_examples(n, seed=seed))]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return labels, tmp_path / "train.jsonl", tmp_path / "test.jsonl"


@pytest.fixture
def curve(tmp_path, files):
    settings = Settings(
        home=tmp_path / "home",
        model={"classification": str(make_tiny_encoder(tmp_path / "tiny.gguf")), "allow_unapproved": True},
        training={"threads": 1, "epochs": 2, "mode": "faithful"},
        engine={"text_tokens": 64, "n_threads": 1},
    )

    def run(**values):
        return evaluate_curve(*files, settings=settings, mask=MaskedText, **values)

    return run


def test_points_come_from_trained_adapters_and_more_examples_help(curve, tmp_path):
    phases = []
    figures = curve(sizes=(60, 6), on_progress=lambda progress: phases.append(progress.phase))
    few, many = figures["learning_curve"]
    assert (few["n_train"], many["n_train"]) == (6, 60)
    assert many["accuracy_adapter"] > 0.9
    assert many["accuracy_tfidf"] > few["accuracy_tfidf"]
    assert few["accuracy_base"] == many["accuracy_base"]
    assert few["adapter_digest"] != many["adapter_digest"]
    low, high = many["gain_over_base_ci95"]
    assert low <= many["gain_over_base"] <= high
    assert (figures["n_test"], figures["n_labels"]) == (45, 3)
    assert any(phase.startswith("6 examples, ") for phase in phases)
    assert not list((tmp_path / "home").glob(".evaluate-*"))
    plot_curve(figures, tmp_path / "out" / "curve.png")
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_size_beyond_the_file_is_refused_before_anything_is_trained(curve):
    with pytest.raises(UserError, match="asks for 61 examples, and the training file holds 60"):
        curve(sizes=(6, 61))


def test_each_subset_holds_the_smaller_ones_and_the_seed_decides_which():
    rows = list(range(100))
    small, large = draw_nested(rows, (10, 40), seed=3)
    assert small == large[:10]
    assert len(set(large)) == 40
    assert draw_nested(rows, (10, 40), seed=3) == [small, large]
    assert draw_nested(rows, (10,), seed=4) != [small]


@pytest.mark.parametrize(
    ("wanted", "n_rows", "chosen"),
    [((), 300, (50, 100, 200, 300)), ((), 200, (50, 100, 200)), ((), 30, (30,)), ((200, 50, 50), 300, (50, 200))],
)
def test_sizes_rise_and_end_with_all_rows_where_none_are_wanted(wanted, n_rows, chosen):
    assert choose_sizes(wanted, n_rows) == chosen


def test_sizes_that_make_no_sense_are_refused():
    assert parse_sizes("50, 100") == (50, 100)
    assert parse_sizes("") == ()
    with pytest.raises(UserError, match="give whole numbers"):
        parse_sizes("50,many")
    with pytest.raises(UserError, match="at least two examples"):
        choose_sizes((1, 50), 100)


def test_gain_per_doubling_is_taken_between_the_last_two_points():
    points = [{"n_train": n, "accuracy_adapter": accuracy} for n, accuracy in ((50, 0.2), (100, 0.5), (400, 0.7))]
    assert compute_gain_per_doubling(points) == 0.1
    assert compute_gain_per_doubling(points[:1]) is None


def test_a_plot_that_cannot_be_written_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        plot_curve({"learning_curve": [], "n_test": 1}, tmp_path / "file" / "x.png")
