"""Whole trainings on a tiny base: what comes out is served, repeats exactly, survives being killed, and takes odd data."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bot.bundle import ADAPTER_FILE, HEAD_FILE, Bundle, hash_file, seal
from bot.engine.factory import build_engine
from bot.engine.head import EncoderHead
from bot.engine.protocol import ScoreRequest
from bot.engine.settings import EngineSettings
from bot.tasks.classification import build_choices
from bot.types import Label, LabelSet
from db.types import MaskedText, TaskKind
from training.encoder.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint
from training.encoder.loop import Stage, compute_rate, order_batches
from training.encoder.served import ServedEncoder
from training.encoder.types import CancelledError, TrainExample

from .conftest import LABELS, SETTINGS, make_examples


class KilledError(Exception):
    """Stands for a process that ends at once."""


def get_hashes(directory):
    return hash_file(directory / ADAPTER_FILE), hash_file(directory / HEAD_FILE)


def predict(directory, tiny, texts):
    bundle = Bundle.load(directory)
    head = EncoderHead.load(directory, bundle.manifest)
    with ServedEncoder(tiny, text_tokens=SETTINGS.text_tokens, n_threads=1) as served:
        embeddings = served.embed(texts, lora=directory / ADAPTER_FILE)
    rows = head.log_probabilities(embeddings, texts).argmax(axis=1)
    return [head.labels[row] for row in rows]


async def test_sealed_bundle_is_proven_and_answers_in_the_engine_as_in_training(train, tiny, tmp_path):
    examples = make_examples(60)
    bundle = seal(train(examples), tmp_path / "adapters")
    assert (bundle.manifest.run_id, bundle.manifest.data_digest, bundle.manifest.label_set_version) == (7, "d", "v")
    assert bundle.manifest.n_train == 60
    unseen = make_examples(30, seed=5)
    engine = build_engine(tiny, settings=EngineSettings(n_threads=1, text_tokens=SETTINGS.text_tokens))
    await engine.start()
    try:
        digest = await engine.load(bundle.directory)
        choices = build_choices(LabelSet("test", "v", tuple(LABELS)))
        answers = [
            await engine.score(ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=item.text, adapter=digest))
            for item in unseen
        ]
    finally:
        await engine.stop()
    served = [choices.names[int(answer.probabilities.argmax())] for answer in answers]
    assert served == predict(bundle.directory, tiny, [item.text for item in unseen])
    assert np.mean([name == item.label for name, item in zip(served, unseen, strict=True)]) > 0.9


def test_same_seed_gives_the_same_bytes_and_another_seed_others(train, tmp_path):
    examples = make_examples(40)
    first = get_hashes(train(examples, directory=tmp_path / "a"))
    assert first == get_hashes(train(examples, directory=tmp_path / "b"))
    assert first[0] != get_hashes(train(examples, directory=tmp_path / "c", seed=1))[0]


def test_training_killed_in_its_contrastive_stage_goes_on_to_the_same_bytes(train, tmp_path):
    examples = make_examples(40)
    whole = get_hashes(train(examples, directory=tmp_path / "whole", contrast_epochs=1))

    def kill(progress):
        if (progress.phase, progress.step) == ("training on all", 4):
            raise KilledError

    values = {"directory": tmp_path / "work", "contrast_epochs": 1}
    with pytest.raises(KilledError):
        train(examples, on_progress=kill, checkpoint_seconds=0.0, **values)
    assert get_hashes(train(examples, **values)) == whole


@pytest.mark.parametrize("place", [("trial 1 of 2", 2), ("trial 2 of 2", 1), ("training on all", 7), ("fitting the head", 40)])
def test_killed_training_goes_on_to_the_same_bytes(train, tmp_path, place):
    examples = make_examples(40)
    whole = get_hashes(train(examples, directory=tmp_path / "whole"))
    seen = []

    def kill(progress):
        if (progress.phase, progress.step) == place:
            raise KilledError

    with pytest.raises(KilledError):
        train(examples, directory=tmp_path / "work", on_progress=kill, checkpoint_seconds=0.0)
    again = train(
        examples, directory=tmp_path / "work", on_progress=lambda progress: seen.append((progress.phase, progress.step))
    )
    assert get_hashes(again) == whole
    assert ("trial 1 of 2", 1) not in seen


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.encoder.conftest import LABELS, SETTINGS, make_examples
from training.encoder.train import train_encoder
from training.encoder.types import RunInfo

def kill(progress):
    if progress.phase == "trial 1 of 2" and progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

settings = SETTINGS.model_copy(update={"checkpoint_seconds": 0.0})
train_encoder(make_examples(40), LABELS, base_gguf=Path(sys.argv[1]), settings=settings, checkpoint_dir=Path(sys.argv[2]),
              on_progress=kill, should_stop=lambda: False, run=RunInfo("p"))
"""


def test_process_killed_by_the_system_leaves_a_checkpoint_that_is_gone_on_with(train, tiny, tmp_path):
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny), str(tmp_path / "work")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    seen = []
    examples = make_examples(40)
    again = train(examples, on_progress=lambda progress: seen.append((progress.phase, progress.step)))
    assert min(step for phase, step in seen if phase == "trial 1 of 2") == 6
    assert get_hashes(again) == get_hashes(train(examples, directory=tmp_path / "whole"))


def test_checkpoint_of_other_data_is_not_gone_on_with(train, tmp_path):
    with pytest.raises(CancelledError):
        train(make_examples(40), should_stop=iter([False, False, False, True]).__next__, checkpoint_seconds=0.0)
    seen = []
    train(make_examples(40, seed=3), on_progress=lambda progress: seen.append((progress.phase, progress.step)))
    assert ("trial 1 of 2", 1) in seen


def test_cancelled_training_says_so_and_keeps_its_checkpoint(train, tmp_path):
    polls = iter([False] * 4 + [True])
    with pytest.raises(CancelledError, match="cancelled"):
        train(make_examples(40), should_stop=polls.__next__, checkpoint_seconds=0.0)
    assert (tmp_path / "work" / FILE).exists()


def test_damaged_checkpoint_is_ignored(tmp_path):
    import torch

    save_checkpoint(tmp_path, Checkpoint("f", 1, 2, {"a": torch.ones(2)}))
    found = load_checkpoint(tmp_path, "f")
    assert found is not None
    assert (found.stage, found.step, found.tensors["a"].tolist()) == (1, 2, [1.0, 1.0])
    assert load_checkpoint(tmp_path, "other") is None
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:20])
    assert load_checkpoint(tmp_path, "f") is None


def test_progress_counts_up_with_a_loss_and_an_estimate(train):
    seen = []
    train(make_examples(40), on_progress=seen.append)
    steps = [progress for progress in seen if progress.phase == "training on all"]
    assert [progress.step for progress in steps] == list(range(1, steps[0].total_steps + 1))
    assert all(progress.loss > 0 and progress.eta_s >= 0 for progress in steps)
    assert seen[-1].phase == "done"


def test_label_without_examples_can_still_be_answered(train, tiny):
    directory = train(make_examples(40), labels=[*LABELS, Label("zebra", "a zebra ran through the zoo")])
    head = EncoderHead.load(directory, Bundle.load(directory).manifest)
    with ServedEncoder(tiny, text_tokens=64, n_threads=1) as served:
        text = "zebra: a zebra ran through the zoo"
        row = np.exp(head.log_probabilities(served.embed([text], lora=directory / ADAPTER_FILE), [text]))[0]
    assert row[3] > 1e-3
    assert np.linalg.norm(head.weight[3]) > 1.0


def test_label_without_examples_is_lifted_where_many_labels_are_rare(train):
    rare = [
        TrainExample(MaskedText(f"{name} {name[::-1]}"), name) for name in ("zinc", "yarn", "wool", "vine", "urn", "oak", "fig")
    ]
    labels = [*LABELS, *(Label(item.label) for item in rare), Label("zebra")]
    directory = train([*make_examples(21), *rare], labels=labels)
    bias = EncoderHead.load(directory, Bundle.load(directory).manifest).bias
    assert bias[-1] > 0.0


def test_one_label_with_examples_is_learnt(train, tiny):
    examples = [item for item in make_examples(60) if item.label == "printer"]
    assert predict(train(examples), tiny, [examples[0].text]) == ["printer"]


def test_two_examples_are_enough_to_train(train):
    assert Bundle.load(train(make_examples(2))).calibration.temperature > 0


def test_empty_doubled_and_huge_texts_are_taken(train):
    odd = [TrainExample(MaskedText(text), "billing") for text in ("", " ", "same", "same", "word " * 20_000)]
    assert Bundle.load(train([*make_examples(20), *odd])).manifest.n_train == 25


def test_not_this_examples_make_their_label_less_likely(train, tiny, tmp_path):
    examples = make_examples(45)
    text = "toner today"
    negatives = [TrainExample(MaskedText(text), "printer", is_negative=True)] * 10

    def get_probability(directory):
        head = EncoderHead.load(directory, Bundle.load(directory).manifest)
        with ServedEncoder(tiny, text_tokens=64, n_threads=1) as served:
            embeddings = served.embed([text], lora=directory / ADAPTER_FILE)
        return float(np.exp(head.log_probabilities(embeddings, [text]))[0, 0])

    before = get_probability(train(examples, directory=tmp_path / "a"))
    after = get_probability(train([*examples, *negatives], directory=tmp_path / "b"))
    assert after < before


def test_nf4_training_gives_a_bundle(train):
    assert (train(make_examples(30), mode="nf4") / ADAPTER_FILE).exists()


def test_contrastive_stage_smoothing_and_a_random_head_change_what_is_learnt(train, tmp_path):
    examples = make_examples(30)
    variants = ({}, {"contrast_epochs": 1}, {"label_smoothing": 0.2}, {"has_label_texts": False})
    found = [get_hashes(train(examples, directory=tmp_path / str(place), **changed))[0] for place, changed in enumerate(variants)]
    assert len(set(found)) == len(variants)


def test_without_the_lexical_expert_none_is_written(train):
    bundle = Bundle.load(train(make_examples(30), has_lexical_expert=False))
    assert bundle.calibration.lexical_weight == 0.0
    assert EncoderHead.load(bundle.directory, bundle.manifest).lexical is None


def test_every_row_comes_once_per_epoch_in_a_repeatable_order():
    stage = Stage("x", tuple(range(5, 30)), 2)
    lengths = list(range(40))
    batches = order_batches(stage, lengths, batch_size=4, seed=1)
    assert len(batches) == stage.count_steps(4)
    assert sorted(row for batch in batches for row in batch) == sorted([*range(5, 30)] * 2)
    assert batches == order_batches(stage, lengths, batch_size=4, seed=1) != order_batches(stage, lengths, batch_size=4, seed=2)


def test_rate_rises_then_falls_to_almost_nothing():
    rates = [compute_rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert 0.0 < rates[-1] < 0.02
