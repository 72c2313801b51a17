"""Training a decoder to write summaries."""

import asyncio

import pytest

from bot.bundle import Bundle
from bot.engine.protocol import GenerateRequest
from bot.tasks.summary import build_summary_prompt, split_units
from db.types import MaskedText, TaskKind
from training.decoder.settings import DecoderSettings
from training.decoder.train import train_summary_decoder
from training.encoder.types import RunInfo, SummaryExample, TrainingDataError

pytestmark = pytest.mark.train
SUMMARY = MaskedText("the printer is out of toner")
EXAMPLES = [
    SummaryExample(text=MaskedText(f"hello the printer is blank {word}"), summary=SUMMARY)
    for word in "help my account password toner user".split()
]


def run(examples, base, directory, *, on_progress=lambda progress: None, **settings):
    return train_summary_decoder(
        examples,
        base_gguf=base,
        settings=DecoderSettings(**{"threads": 1, "precision": "fp32", "epochs": 40, "batch_size": 6} | settings),
        checkpoint_dir=directory,
        on_progress=on_progress,
        should_stop=lambda: False,
        run=RunInfo(prompt_version="summary-1"),
    )


def test_summary_training_lowers_the_loss_and_the_engine_writes_with_the_adapter(base_path, served, tmp_path):
    seen = []
    directory = run(EXAMPLES, base_path, tmp_path / "run", on_progress=seen.append)
    losses = [progress.loss for progress in seen if progress.phase == "training"]
    assert losses[-1] < 0.3 * losses[0]
    assert Bundle.load(directory).manifest.task is TaskKind.SUMMARY

    async def write():
        async with served(base_path) as engine:
            digest = await engine.engine.load(directory)
            prompt = build_summary_prompt(split_units(EXAMPLES[0].text))
            texts = []
            for adapter in ("base", digest):
                request = GenerateRequest(
                    task=TaskKind.SUMMARY,
                    key=prompt.key,
                    prefix=prompt.prefix,
                    text=prompt.text,
                    suffix=prompt.suffix,
                    max_tokens=40,
                    adapter=adapter,
                )
                texts.append("".join([chunk.text async for chunk in engine.engine.generate(request)]).strip())
            return texts

    before, after = asyncio.run(write())
    assert before != SUMMARY
    assert after == SUMMARY


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_summaries_are_refused(n, base_path, tmp_path):
    with pytest.raises(TrainingDataError):
        run(EXAMPLES[:n], base_path, tmp_path / "run")
