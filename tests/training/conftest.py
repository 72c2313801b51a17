"""A home folder with a migrated database, and examples to train on, for tests of the training process."""

import threading

import pytest

from bot.data import demo_label_set, load_demo_tickets
from bot.settings import Settings
from db.queries import runs
from db.queries.examples import NewExample, add_examples
from db.session import transaction
from db.types import MaskedText, RunTrigger, TaskKind
from training.source import open_database


class Site:
    """One deployment as the training process sees it."""

    def __init__(self, home, **training):
        self.settings = Settings(home=home, training={"has_second_masking": False, "threads": 2, **training})
        self.db_engine = open_database(self.settings)
        self.stop = threading.Event()

    def add_tickets(self, n, *, relabel=lambda place, label: label, start=0):
        """Add real demo tickets as examples."""
        tickets = load_demo_tickets().stream[start : start + n]
        rows = [
            NewExample(text=MaskedText(ticket.text), target=relabel(place, ticket.label), group_key=ticket.group)
            for place, ticket in enumerate(tickets)
        ]
        with transaction(self.db_engine) as session:
            version = demo_label_set().version
            add_examples(session, rows, task=TaskKind.CLASSIFICATION, label_set_version=version, actor="test")

    def enqueue(self, task=TaskKind.CLASSIFICATION, **values):
        with transaction(self.db_engine) as session:
            return runs.enqueue_run(session, task=task, trigger=RunTrigger.MANUAL, actor="test", **values).id

    def get_run(self, run_id):
        return self.read(lambda session: runs.get_run(session, run_id))

    def read(self, work):
        with transaction(self.db_engine, is_read_only=True) as session:
            return work(session)

    def write(self, work):
        with transaction(self.db_engine) as session:
            return work(session)

    def get_log(self, run_id):
        return (self.settings.runs_dir / str(run_id) / "log.txt").read_text()


@pytest.fixture
def make_site(home):
    """Build a site under the test's home folder; keyword arguments are training settings."""
    made = []

    def make(**training):
        made.append(Site(home, **training))
        return made[-1]

    yield make
    for site in made:
        site.db_engine.dispose()
