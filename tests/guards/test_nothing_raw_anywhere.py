"""Nothing raw anywhere: the whole loop runs on planted secrets, and they are looked for in all that it leaves behind.

Tickets by the contract and by the console, decisions, edits, review, imports, corrections, a training run with its bundle, notes and
cards, promotion and rollback, metrics, errors. Searched: every table, the bytes of every file in the home and the temporary folder, every
log record at DEBUG with its traceback, every exception's text, the metrics. The planted values are invented.
"""

import asyncio
import contextlib
import json
import logging
import re
import tempfile
import threading
import traceback

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import Session
from typer.testing import CliRunner

from bot.app import App, create_web
from bot.cli.main import app as cli
from bot.data import load_demo_tickets
from bot.demo.privacy import count_found
from bot.masking import Vault
from bot.plugin_api import CorrectionKind, Feedback, FeedbackKind, SourceRef, Subject, TaskKind, Turn
from bot.settings import Settings
from db.queries import adapters, runs
from db.queries.review import collect_low_confidence
from db.session import transaction
from db.tables import Row
from db.types import AdapterStatus, RunTrigger

pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(900),
    # PEFT asks transformers for an attribute that transformers renames: https://github.com/huggingface/peft
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

# A sentence per kind of data, and the part of it that may stand nowhere.
PLANTED = {
    "name": ("Hello, this is Margaret Oduya from accounting.", "Oduya"),
    "signature": ("My screen is black.\n\nKind regards,\nPriya Ramanathan", "Ramanathan"),
    "email": ("Write to quentin.hallow@example.com please.", "quentin.hallow"),
    "obfuscated": ("Write to wilma.brack at example dot com please.", "wilma.brack"),
    "card": ("My card 4111 1111 1111 1111 was charged twice.", "4111 1111 1111"),
    "iban": ("Please refund to IBAN GB82 WEST 1234 5698 7654 32.", "WEST 1234 5698"),
    "phone": ("Call me on +44 20 7946 0958 after five.", "7946 0958"),
    "ssn": ("My SSN is 536-90-4399.", "536-90-4399"),
    "address": ("I live at 14 Harrowgate Lane, Leeds LS1 4AP.", "14 Harrowgate"),
    "ip": ("Access is denied from 192.0.2.177 since noon.", "192.0.2.177"),
    "password": ("The password is Hunter2!orchid and it fails.", "Hunter2!orchid"),
    "aws": ("The key AKIAQ3EGRZ7T5X2NVWPL stopped working.", "AKIAQ3EGRZ7T5X2NVWPL"),
    "github": ("Token ghp_9fK2mQ7xZ1bC4vN8sL3tR6yW5pD0jH2aE7uX is refused.", "ghp_9fK2mQ7xZ1bC4"),
    "jwt": (
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI5OTI3NDEifQ.4vKc0vB8dXb6m1Q2w3e4r5t6y7u8i9o0 is refused.",
        "eyJzdWIiOiI5OTI3NDEifQ",
    ),
    "user": (r"The file C:\Users\ttoliverz\report.doc is locked.", "ttoliverz"),
}
SENTENCES = [sentence for sentence, _ in PLANTED.values()]
VALUES = [value for _, value in PLANTED.values()]
MISSED = "quxley"
"""A name that no recogniser knows: people correct it, and then it may stand nowhere either."""
EVERYTHING = " ".join(SENTENCES)


class Journal(logging.Handler):
    """Keeps every record as a formatter would write it, with its traceback."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())
        if record.exc_info:
            self.lines.append("".join(traceback.format_exception(*record.exc_info)))


class Loop:
    """The bot, what it logged, and the errors it raised."""

    def __init__(self, app):
        self.app = app
        self.errors = []

    @contextlib.contextmanager
    def failing(self):
        """Keep the text of the error that must come, with all that it is chained to."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  any error: its text is what counts
            yield
        self.errors.append("".join(traceback.format_exception(caught.value)))

    def feedback(self, inference_id, kind, **values):
        key = f"{inference_id}-{kind}-{len(str(values))}"
        return self.app.bot.record_feedback(Feedback(inference_id, kind, "ana", idempotency_key=key, **values))


@pytest.fixture
def journal():
    root, journal = logging.getLogger(), Journal()
    level = root.level
    root.addHandler(journal)
    root.setLevel(logging.DEBUG)
    yield journal
    root.removeHandler(journal)
    root.setLevel(level)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def settings(home, monkeypatch):
    key = Vault.new_key()
    monkeypatch.setenv("UNDERSTUDY_VAULT_KEY", key)  # for the command line
    patience_ms = 120_000  # on a busy machine a text would be withheld, and too little would be left to train on
    monkeypatch.setenv("UNDERSTUDY_MASKING_CHUNK_TIMEOUT_MS", str(patience_ms))
    return Settings(
        home=home,
        vault_key=SecretStr(key),
        blind_share=0.0,
        sample_tickets=False,
        masking={"workers": 0, "chunk_timeout_ms": patience_ms},
        training={"epochs": 1, "r": 4, "threads": 2, "daemon": "external", "gate_min_test": 5, "policy": "approval"},
    )


async def work_through_tickets(loop):
    """Take tickets in and decide on them in every way; one name slips through the masking and is corrected."""
    bot = loop.app.bot
    for number, sentence in enumerate(SENTENCES):
        source = SourceRef("guard", str(number))
        turns = (Turn("Margaret Oduya", sentence), Turn("agent", f"Thank you. {sentence}"))
        card = await bot.classify(sentence, source=source, subject=sentence[:60])
        assert card.inference_id is not None, sentence
        await bot.summarize(sentence, source=source, turns=turns)
        summary = await bot.summarize("", source=source)
        await loop.feedback(summary.inference_id, FeedbackKind.EDIT, value=f"Edited: {sentence}", reason=sentence)
        label = loop.app.core.label_set.names[number % 3]
        await loop.feedback(card.inference_id, FeedbackKind.OVERRIDE, value=label, reason=EVERYTHING)
    handed = await bot.classify(EVERYTHING, source=SourceRef("guard", "all"))
    await loop.feedback(handed.inference_id, FeedbackKind.HANDOFF, reason=EVERYTHING)
    missed = await bot.classify(f"the printer of {MISSED} is broken", source=SourceRef("guard", "missed"))
    await loop.feedback(missed.inference_id, FeedbackKind.ACCEPT, reason=f"{MISSED} again")
    info = await bot.privacy.report_correction(
        kind=CorrectionKind.MASK, entity="PERSON", text=MISSED, actor="ana", ticket_id=missed.ticket_id
    )
    await bot.privacy.review_correction(info.id, is_approved=True, actor="bob", reason=EVERYTHING)
    loop.app.privacy.remask_pending()
    assert loop.app.privacy.run_regression().n_failed == 0


async def review_and_fail(loop):
    """Settle questions, and make every kind of request fail with secrets in it."""
    bot, core = loop.app.bot, loop.app.core
    version = core.label_set.version
    for number in range(2):
        await bot.classify(f"{EVERYTHING} {number}", source=SourceRef("guard", f"open-{number}"))
    await core.in_db(lambda session: collect_low_confidence(session, below=1.0, label_set_version=version, limit=5))
    first, second, *_ = await bot.manager.list_review()
    await bot.manager.resolve_review(first.id, label=core.label_set.names[0], actor="ana", reason=EVERYTHING)
    await bot.manager.dismiss_review(second.id, actor="ana", reason=EVERYTHING)
    summary = await bot.summarize("", source=SourceRef("guard", "0"))
    with loop.failing():
        await loop.feedback(summary.inference_id, FeedbackKind.OVERRIDE, value=EVERYTHING)
    with loop.failing():
        await loop.feedback(10**6, FeedbackKind.ACCEPT, reason=EVERYTHING)
    with loop.failing():
        await bot.privacy.report_correction(kind=CorrectionKind.MASK, entity="PERSON", text=EVERYTHING, actor="ana", ticket_id=1)
    with loop.failing():
        await bot.manager.promote("0" * 12, actor="ana", reason=EVERYTHING)
    withheld = await bot.classify(EVERYTHING * 10_000, source=SourceRef("guard", "long"))
    assert withheld.inference_id is None
    with loop.failing(), Session(loop.app.db_engine) as session:
        session.add(next(iter(Row.__subclasses__()))(name=EVERYTHING, version=None))  # the database refuses it
        session.commit()


async def use_the_console(loop):
    """Paste a ticket in, look for somebody, take an export; return the metrics and what health says."""
    transport = httpx.ASGITransport(app=create_web(loop.app), client=("127.0.0.1", 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        page = (await client.get("/plugins/console/tickets/new")).text
        form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
        pasted = {**form, "subject": SENTENCES[0], "text": EVERYTHING, "idempotency_key": "guard-1"}
        assert (await client.post("/plugins/console/tickets/new", data=pasted)).status_code == 303
        asked = {**form, "person": "Margaret Oduya"}
        assert "Margaret" in (await client.post("/plugins/console/privacy/people", data=asked)).text
        assert (await client.post("/plugins/console/actor", data={**form, "actor": "Kim"})).status_code == 303
        export = await client.post("/plugins/console/privacy/people/export", data={**asked, "sure": "yes"})
        assert "Oduya" in export.text
        await client.post("/plugins/console/privacy/people", data={**form, "person": EVERYTHING[:190], "ticket": EVERYTHING[:20]})
        return (await client.get("/metrics")).text + (await client.get("/healthz")).text


def import_and_export(tmp_path, home):
    """Import labelled tickets with secrets in them by the command line, enough to train on, and export the examples."""
    rows = [
        {"id": f"import-{number}", "text": f"{ticket.text} {SENTENCES[number % len(SENTENCES)]}", "label": ticket.label}
        for number, ticket in enumerate(load_demo_tickets().stream[:100])
    ]
    source = tmp_path / "raw.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({"text": EVERYTHING, "label": EVERYTHING}) + "\n")
    done = CliRunner().invoke(cli, ["import", str(source)])
    assert done.exit_code == 0, done.output
    failed = CliRunner().invoke(cli, ["import", str(broken)])
    assert failed.exception is not None
    exported = CliRunner().invoke(cli, ["export", str(home / "export.jsonl")])
    assert exported.exit_code == 0
    return done.output + str(failed.exception) + exported.output


def train(settings, db_engine):
    """Run the real trainer on what was decided and imported."""
    from training.pipeline import run_training

    with transaction(db_engine) as session:
        run_id = runs.enqueue_run(session, task=TaskKind.CLASSIFICATION, trigger=RunTrigger.MANUAL, actor="ana").id
    run_training(run_id, settings, stop=threading.Event())
    with transaction(db_engine, is_read_only=True) as session:
        row = runs.get_run(session, run_id)
    assert row.error is None
    assert row.adapter_digest is not None, row.message
    return row.adapter_digest


def put_up_for_approval(db_engine, digest):
    """Make the adapter a candidate, whatever the gate said of it: that is not what is asked here."""
    with transaction(db_engine) as session:
        adapters.get_adapter(session, digest).status = AdapterStatus.CANDIDATE


def dump_tables(db_engine):
    with Session(db_engine) as session:
        return "\n".join(str(session.connection().execute(table.select()).all()) for table in Row.metadata.tables.values())


def find_in(text):
    folded = re.sub(r"\s+", " ", text).casefold()
    return [value for value in [*VALUES, MISSED] if value.casefold() in folded or json.dumps(value)[1:-1].casefold() in folded]


async def test_no_planted_secret_is_left_in_any_table_log_metric_error_report_bundle_or_temporary_file(
    settings, home, temporary, journal, tmp_path
):
    app = App(settings, with_training=False)
    await app.start()
    loop = Loop(app)
    try:
        await work_through_tickets(loop)
        await review_and_fail(loop)
        metrics = await use_the_console(loop)
        printed = await asyncio.to_thread(import_and_export, tmp_path, home)
        digest = await asyncio.to_thread(train, settings, app.db_engine)
        put_up_for_approval(app.db_engine, digest)
        promoted = await app.bot.manager.promote(digest, actor="ana", reason=EVERYTHING)
        assert promoted.status is AdapterStatus.ACTIVE
        assert await app.bot.manager.rollback(TaskKind.CLASSIFICATION, actor="ana", reason=EVERYTHING) is None
        await app.bot.privacy.erase(Subject(person="Priya Ramanathan"), actor="ana", reason=EVERYTHING)
        tables = dump_tables(app.db_engine)
    finally:
        await app.stop()
    assert "<PERSON_1>" in tables  # the search looks at what was stored
    assert len(journal.lines) > 50
    places = {"tables": tables, "log": "\n".join(journal.lines), "metrics": metrics, "printed": printed}
    places |= {"errors": "\n".join(loop.errors)}
    assert {name: found for name, text in places.items() if (found := find_in(text))} == {}
    files = [path for folder in (home, temporary) for path in folder.rglob("*") if path.is_file() and "models" not in path.parts]
    assert {path.name for path in files} >= {"probe.json", "lexicon.json", "notes.md", "card.md", "dataset.json"}
    assert {path.name: found for path in files if (found := find_in(path.read_bytes().decode("utf-8", "replace")))} == {}
    assert await count_found([*VALUES, MISSED], files) == 0
