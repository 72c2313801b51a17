"""A decoder named by its path takes over a task, with no other change."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.app import App
from bot.plugin_api import Feedback, FeedbackKind, ModelKind, SourceRef, TaskKind, Turn
from bot.settings import ModelSettings
from tests.scenario.conftest import make_settings, run_app
from tests.support.tiny_decoder import make_tiny_decoder

TURNS = (Turn("customer", "The printer on the third floor prints blank pages."), Turn("agent", "Did you replace the toner?"))


@pytest.fixture
async def decoder_app(tmp_path: Path, model_home: Path) -> AsyncIterator[App]:
    path = tmp_path / "tiny.gguf"
    make_tiny_decoder(path)
    models = ModelSettings(classification=str(path), summary=str(path))
    async for app in run_app(make_settings(tmp_path / "home", model_home, model=models)):
        yield app


async def test_it_classifies_with_a_distribution_and_summarises_with_written_text(decoder_app: App):
    card = await decoder_app.bot.classify("My printer prints blank pages", source=SourceRef("test", "1"))
    assert card.label in decoder_app.core.label_set.names
    assert sum(score.probability for score in card.candidates) <= 1.0001
    summary = await decoder_app.bot.summarize("", source=SourceRef("test", "2"), turns=TURNS)
    assert not summary.is_excerpt
    assert summary.inference_id is not None
    kinds = {task: engine.kind for task, engine in decoder_app.core.engines.items()}
    assert kinds == {TaskKind.CLASSIFICATION: ModelKind.DECODER, TaskKind.SUMMARY: ModelKind.DECODER}
    assert len(decoder_app.unique_engines) == 1


async def test_its_summary_can_be_edited(decoder_app: App):
    summary = await decoder_app.bot.summarize("", source=SourceRef("test", "2"), turns=TURNS)
    receipt = await decoder_app.bot.record_feedback(
        Feedback(summary.inference_id, FeedbackKind.EDIT, "ana", idempotency_key="a", value="The printer prints blank pages.")
    )
    assert receipt.example_id is not None
    assert (await decoder_app.bot.inbox.get_ticket(summary.ticket_id)).summary.text == "The printer prints blank pages."
