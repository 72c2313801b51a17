"""`evaluate` on files: figures from a real training of a tiny base through the real engine, and one clear error per kind of bad file."""

import json

import numpy as np
import pytest

from bot.bundle import hash_file
from bot.errors import UserError
from bot.masking import MaskingError
from bot.settings import Settings
from bot.tasks.labels import LabelSetError
from db.types import MaskedText
from tests.support.tiny_encoder import make_tiny_encoder
from training.evaluate import Row, Scored, build_figures, evaluate_files, write_figures

from .encoder.conftest import WORDS, make_examples

KEYS = {
    "n_train",
    "n_test",
    "n_labels",
    "accuracy_base",
    "accuracy_adapter",
    "accuracy_tfidf",
    "accuracy_frozen",
    "accuracy_knn",
    "accuracy_majority",
    "macro_f1_adapter",
    "macro_f1_tfidf",
    "ece_base",
    "ece_adapter",
    "gain_over_tfidf_ci95",
    "gain_over_base_ci95",
    "train_seconds",
    "tokens_per_second",
    "adapter_digest",
}


def keep(text):
    return MaskedText(text)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


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
def evaluate(tiny, tmp_path, files):
    settings = Settings(
        home=tmp_path / "home",
        model={"classification": str(tiny), "allow_unapproved": True},
        training={"threads": 1, "epochs": 2, "mode": "faithful"},
        engine={"text_tokens": 64, "n_threads": 1},
    )

    def run(mask=keep, **values):
        return evaluate_files(*files, settings=settings, mask=mask, **values)

    return run


def test_figures_come_from_a_trained_adapter_as_served(evaluate, tiny, tmp_path):
    phases = []
    figures = evaluate(on_progress=lambda progress: phases.append(progress.phase))
    assert set(figures) >= KEYS
    assert (figures["n_train"], figures["n_test"], figures["n_labels"]) == (60, 45, 3)
    assert figures["accuracy_adapter"] > 0.9 > figures["accuracy_majority"]
    assert figures["base_digest"] == hash_file(tiny)
    assert len(figures["adapter_digest"]) == 64
    assert figures["tokens_per_second"] > 0
    assert phases[0] == "masking"
    assert not list((tmp_path / "home").glob(".evaluate-*"))
    write_figures(tmp_path / "out" / "figures.json", figures)
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures


def test_every_text_is_masked_before_it_is_used(evaluate):
    seen = []

    def mask(text):
        seen.append(text)
        return MaskedText("always the same words here")

    figures = evaluate(mask=mask)
    assert len(seen) == 105
    assert figures["accuracy_adapter"] == pytest.approx(1 / 3, abs=1e-4)


def test_text_that_cannot_be_masked_is_named_by_file_and_line(evaluate, files):
    def refuse(text):
        raise MaskingError("too long")

    with pytest.raises(UserError, match=r"train\.jsonl, line 1: the text cannot be masked: too long"):
        evaluate(mask=refuse)


@pytest.mark.parametrize(
    ("which", "line", "complaint"),
    [
        (1, '{"id": "x", "text": "secret words"}', r"train\.jsonl, line 62: the field 'label' is missing"),
        (
            1,
            '{"id": "x", "text": "secret words", "label": "zz"}',
            r"train\.jsonl, line 62: the label 'zz' is not in the label set",
        ),
        (
            2,
            '{"id": "x", "text": "secret words", "label": "zz"}',
            r"test\.jsonl, line 47: the label 'zz' is not in the label set",
        ),
        (2, '{"id": "x", "text": "secret words', r"test\.jsonl, line 47: not valid JSON"),
        (2, '["secret words"]', r"test\.jsonl, line 47"),
    ],
)
def test_bad_line_is_named_by_file_and_number_and_not_quoted(evaluate, files, which, line, complaint):
    files[which].write_text(files[which].read_text() + "\n" + line + "\n")
    with pytest.raises(UserError, match=complaint) as caught:
        evaluate()
    assert "secret words" not in str(caught.value)


@pytest.mark.parametrize("which", [1, 2])
def test_empty_or_missing_file_is_refused(evaluate, files, which):
    files[which].write_text("\n")
    with pytest.raises(UserError, match="holds no examples"):
        evaluate()
    files[which].unlink()
    with pytest.raises(UserError, match="cannot read"):
        evaluate()


def test_broken_label_set_is_refused(evaluate, files):
    files[0].write_text("labels: [")
    with pytest.raises(LabelSetError):
        evaluate()


def test_gain_and_interval_are_paired_and_signed():
    rows = [Row(MaskedText(str(at)), at % 2) for at in range(200)]
    right = np.eye(2)[[row.label for row in rows]] * 0.8 + 0.1
    wrong = right[:, ::-1]
    mixed = np.where(np.arange(200)[:, None] % 4 == 0, right, wrong)
    figures = build_figures(
        rows[:10], rows, base=Scored(mixed, 1.0), adapter=Scored(right, 1.0), baselines={"tfidf": wrong, "frozen": right}, seed=0
    )
    assert figures["gain_over_tfidf"] == 1.0
    assert figures["gain_over_base"] == 0.75
    assert figures["gain_over_base_ci95"][0] > 0.6
    assert figures["gain_over_frozen_ci95"] == [0.0, 0.0]
    assert figures["n_test_texts_seen_in_train"] == 10
    assert figures["ece_adapter"] == pytest.approx(0.1)


def test_figures_that_cannot_be_written_are_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_figures(tmp_path / "file" / "x.json", {})
