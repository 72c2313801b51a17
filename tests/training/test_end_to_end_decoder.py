"""A summary run and a classification run on a tiny decoder: what the gate asks of decoders alone is asked of the served artefact."""

import pytest

from bot.data import load_demo_dialogues
from bot.settings import Settings
from db.queries import gate
from db.queries.examples import NewExample, add_examples
from db.types import MaskedText, RunStatus, TaskKind
from tests.support.tiny_decoder import make_tiny_decoder
from training.pipeline import run_training

pytestmark = [
    pytest.mark.train,
    # PEFT asks transformers for an attribute that transformers renames: https://github.com/huggingface/peft
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
QUICK = {
    "epochs": 1,
    "r": 4,
    "has_second_masking": False,
    "threads": 2,
    "gate_min_test": 10,
    "min_examples": 20,
    "noise_action": "off",
}


@pytest.fixture
def site(make_site, tmp_path):
    site = make_site()
    path = str(make_tiny_decoder(tmp_path / "tiny.gguf"))
    site.settings = Settings(home=site.settings.home, training=QUICK, model={"summary": path, "classification": path})
    return site


def get_report(site, run_id):
    status = run_training(run_id, site.settings, stop=site.stop)
    assert status in {RunStatus.PROMOTED, RunStatus.REJECTED}, site.get_run(run_id).error
    return site.read(lambda session: gate.get_gate_report(session, run_id=run_id))


def test_a_summary_decoder_is_tempted_with_planted_secrets_and_asked_for_made_up_facts(site):
    rows = [
        NewExample(
            text=MaskedText(dialogue.turns[0].text),
            turns=tuple({"speaker": turn.speaker, "text": turn.text} for turn in dialogue.turns),
            target=dialogue.summary,
        )
        for dialogue in load_demo_dialogues()[:80]
    ]
    site.write(lambda s: add_examples(s, rows, task=TaskKind.SUMMARY, label_set_version="", actor="test"))
    report = get_report(site, site.enqueue(task=TaskKind.SUMMARY))
    names = {check["name"] for check in report.numbers["checks"]}
    assert {"leaks", "faithful", "better"} <= names
    assert 0.0 <= report.numbers["candidate_edit_distance"] <= 1.0


def test_a_classifying_decoder_is_compared_with_the_bare_one_that_sees_examples_and_with_models_on_words(site):
    site.add_tickets(60)
    report = get_report(site, site.enqueue())
    checks = {check["name"]: check for check in report.numbers["checks"]}
    for name in ("few_shot", "tfidf", "knn"):
        assert 0.0 <= report.numbers[f"{name}_accuracy"] <= 1.0
        assert f"baseline:{name}" in checks


def test_an_adapter_that_changes_nothing_is_refused_and_says_so(site):
    training = site.settings.training.model_copy(update={"learning_rate": 1e-12})
    site.settings = site.settings.model_copy(update={"training": training})
    site.add_tickets(60)
    run_id = site.enqueue()
    report = get_report(site, run_id)
    assert site.get_run(run_id).status is RunStatus.REJECTED
    assert "learned nothing" in " ".join(report.reasons)
