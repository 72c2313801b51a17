"""The bundled data is whole, and what it says of itself is true."""

import re
from importlib.resources import files

from bot.data import demo_label_set, load_demo_dialogues, load_demo_tickets, load_sample_tickets


def test_demo_tickets_have_known_labels_and_no_group_straddles():
    tickets = load_demo_tickets()
    assert (len(tickets.stream), len(tickets.unseen)) == (2200, 1900)
    assert {ticket.label for ticket in tickets.stream} == set(demo_label_set().names)
    assert {ticket.label for ticket in tickets.unseen} == set(demo_label_set().names)
    assert not {ticket.group for ticket in tickets.stream} & {ticket.group for ticket in tickets.unseen}
    both = [*tickets.stream, *tickets.unseen]
    assert len({ticket.id for ticket in both}) == len(both)


def test_demo_dialogues_begin_with_the_customer_and_have_a_reference():
    dialogues = load_demo_dialogues()
    assert len({dialogue.id for dialogue in dialogues}) == len(dialogues) == 400
    assert all(dialogue.turns[0].speaker == "customer" and dialogue.summary for dialogue in dialogues)
    assert len({dialogue.summary for dialogue in dialogues}) == 400


def test_sample_tickets_show_fake_personal_data_alone():
    samples = load_sample_tickets()
    assert 20 <= len({sample.id for sample in samples}) == len(samples) <= 40
    everything = "\n".join(turn.text for sample in samples for turn in sample.turns) + "\n".join(
        sample.text for sample in samples
    )
    addresses = re.findall(r"[\w.]+@([\w.]+\w)", everything)
    assert len(addresses) > 8
    assert set(addresses) <= {"example.com", "example.org", "example.net"}
    assert any(not sample.turns for sample in samples)


def test_readme_names_every_file():
    folder = files("bot.data")
    readme = folder.joinpath("README.md").read_text(encoding="utf-8")
    for item in folder.iterdir():
        if item.name.endswith((".gz", ".yaml", ".json")):
            assert item.name in readme
    for licence in folder.joinpath("licences").iterdir():
        assert f"licences/{licence.name}" in readme
