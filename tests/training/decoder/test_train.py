"""Training a decoder to choose labels: from examples to a bundle that the engine serves."""

import asyncio
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from bot.bundle import ADAPTER_FILE, MANIFEST_FILE, Manifest, seal
from db.types import MaskedText, ModelKind, TaskKind
from tests.training.decoder.conftest import CHOICES, RUN, WORDS, make_examples, make_tickets
from training.encoder.types import CancelledError, TrainExample, TrainingDataError

pytestmark = pytest.mark.train


@pytest.mark.parametrize("mode", ["nf4", "faithful"])
def test_training_raises_served_accuracy_from_chance_and_the_bundle_says_what_it_is(mode, train, served, base_path, tmp_path):
    directory = train(make_examples(80), mode=mode, epochs=10)
    bundle = seal(directory, tmp_path / "adapters")

    async def measure():
        async with served(base_path) as engine:
            digest = await engine.engine.load(bundle.directory)
            tickets = make_tickets(30, seed=1)
            return await engine.measure_accuracy(tickets, "base"), await engine.measure_accuracy(tickets, digest)

    before, after = asyncio.run(measure())
    assert before < 0.6
    assert after > 0.9
    manifest = bundle.manifest
    assert (manifest.task, manifest.model_kind) == (TaskKind.CLASSIFICATION, ModelKind.DECODER)
    assert manifest.labels == tuple(WORDS)
    assert manifest.n_train == 204  # 15 % are kept for calibration
    assert (manifest.run_id, manifest.label_set_version, manifest.data_digest) == (7, "v1", RUN.data_digest)
    assert np.abs(np.asarray(bundle.probe.expected) - np.asarray(bundle.probe.base)).max() > 4 * 0.9 * bundle.probe.tolerance


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(train, base_path, tmp_path):
    settings = {"epochs": 3, "mode": "faithful"}
    whole = train(make_examples(20), directory=tmp_path / "whole", **settings)
    script = f"""
        from pathlib import Path
        from tests.training.decoder.conftest import *
        train_decoder(
            make_examples(20), LABELS, base_gguf=Path({str(base_path)!r}), checkpoint_dir=Path({str(tmp_path / "killed")!r}), run=RUN,
            settings=DecoderSettings(threads=1, precision="fp32", learning_rate=5e-3, checkpoint_seconds=0, epochs=3, mode="faithful"),
            on_progress=lambda progress: print(progress.phase, progress.step, flush=True), should_stop=lambda: False,
        )
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.strip() == "training 7":
                child.kill()
    assert child.returncode == -9

    seen = []
    resumed = train(make_examples(20), directory=tmp_path / "killed", on_progress=seen.append, **settings)

    first = next(progress.step for progress in seen if progress.phase == "training")
    assert first >= 7
    assert (resumed / ADAPTER_FILE).read_bytes() == (whole / ADAPTER_FILE).read_bytes()


def test_a_checkpoint_of_other_examples_is_not_gone_on_with(train, tmp_path):
    train(make_examples(10), epochs=1)
    seen = []
    train(make_examples(10, seed=5), epochs=1, on_progress=seen.append)
    assert next(progress.step for progress in seen if progress.phase == "training") == 1


def test_a_cancelled_run_stops_and_keeps_its_checkpoint(train, tmp_path):
    seen = []
    with pytest.raises(CancelledError):
        train(
            make_examples(20),
            directory=tmp_path / "run",
            on_progress=seen.append,
            should_stop=lambda: seen[-1].step >= 3,
            checkpoint_seconds=0,
        )
    assert seen[-1].step == 3
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.parametrize(("limit_mib", "held_as"), [(2048, "float32"), (0, "blocks")])
def test_the_record_says_how_the_base_was_held(limit_mib, held_as, train):
    figures = {}
    train(make_examples(10), epochs=1, mode="faithful", faithful_limit_mib=limit_mib, on_figures=figures.__setitem__)
    assert figures["holding"]["held_as"] == held_as
    assert figures["holding"]["held_mib"] > 0.0
    assert figures["holding"]["pack_tokens"] == 1024


def test_examples_given_for_validation_are_never_learnt_from(train):
    learnt = make_examples(20)
    kept = [replace(example, split="validation") for example in make_examples(10, seed=9)]
    directory = train([*learnt, *kept], epochs=1)
    assert Manifest.model_validate_json((directory / MANIFEST_FILE).read_bytes()).n_train == 60


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_examples_are_refused(n, train):
    with pytest.raises(TrainingDataError):
        train(make_examples(1)[:n])


def test_an_unknown_label_is_refused_without_its_text(train):
    with pytest.raises(TrainingDataError, match="'billing'") as caught:
        train([*make_examples(2), TrainExample(text=MaskedText("secret words"), label="billing")])
    assert "secret" not in str(caught.value)


def test_a_ticket_marked_as_not_a_label_loses_that_label(train, served, base_path, tmp_path):
    text = MaskedText("the printer is locked")
    directory = train(
        [*make_examples(10), *[TrainExample(text=text, label="hardware", is_negative=True, weight=2.0)] * 10],
        epochs=10,
        mode="faithful",
    )

    async def measure():
        async with served(base_path) as engine:
            digest = await engine.engine.load(directory)
            return (await engine.score(text, digest))[CHOICES.names.index("hardware")]

    assert asyncio.run(measure()) < 0.1
