"""The same bot on SQLite and on PostgreSQL."""

from pathlib import Path

from pydantic import SecretStr

from bot.app import App
from bot.plugin_api import Feedback, FeedbackKind, SourceRef, TicketStatus
from tests.scenario.conftest import make_settings


async def test_a_ticket_goes_all_the_way_on_both_databases(db_url: str, tmp_path: Path, model_home: Path):
    settings = make_settings(tmp_path / "home", model_home, database_url=SecretStr(db_url))
    app = App(settings, with_plugins=False, with_training=False)
    await app.start()
    try:
        card = await app.bot.classify("My laptop screen stays black", source=SourceRef("test", "1"), subject="Laptop")
        receipt = await app.bot.record_feedback(Feedback(card.inference_id, FeedbackKind.ACCEPT, "ana", idempotency_key="a"))
        detail = await app.bot.inbox.get_ticket(card.ticket_id)
        overview = await app.bot.inbox.get_overview()
        assert receipt.is_new
        assert detail.classification == card
        assert (detail.item.status, detail.item.decided_by) == (TicketStatus.DECIDED, "ana")
        assert (overview.n_accepted, overview.n_examples) == (1, 1)
        assert await app.bot.manager.list_adapters() == []
    finally:
        await app.stop()
