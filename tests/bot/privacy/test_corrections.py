"""What people say about masking: taken in without a raw word at rest, in force once approved, applied to what is stored, and tested for."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlmodel import select

from bot.masking import PlaceholderMap
from bot.masking.corrections import PhraseRule, Rules, hash_words
from bot.plugin_api import BotError, ConflictError, CorrectionKind, CorrectionStatus, NotFoundError, Subject
from db.privacy_tables import Correction
from db.queries import adapters, lineage
from db.queries.audit import list_audit
from db.queries.privacy_corrections import list_approved
from db.queries.wanted import list_wanted
from db.tables import Adapter, Audit, Example, FeedbackRow, Inference, Ticket
from db.types import Split
from tests.bot.privacy.conftest import build_site
from tests.support.db_rows import add_adapter, add_run

MASK, KEEP = CorrectionKind.MASK, CorrectionKind.KEEP
LEAK = "Ask Bo Ek, said Maria Gonzalez. Bo Ek knows."


def test_two_texts_of_one_ticket_at_once_never_share_a_number(site, monkeypatch):
    """Both have read the map before either writes into it."""
    secret = b"x" * 32
    rule = PhraseRule(MASK, "PERSON", hash_words(["bo"], secret), "k", 1)
    site.masker.set_rules(Rules([rule], {"k": secret}))
    mapping, copy, both = PlaceholderMap(), PlaceholderMap.copy, threading.Barrier(2, timeout=0.5)

    def copy_together(self):
        copied = copy(self)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()
        return copied

    monkeypatch.setattr(PlaceholderMap, "copy", copy_together)
    with ThreadPoolExecutor(2) as threads:
        masked = list(threads.map(lambda text: site.masker.mask(text, mapping), ["Jasper and Bo", "Tom Berg and Bo"]))
    assert len({m.surfaces[0][0] for m in masked}) == 2
    assert len(mapping.entries) == 3


async def report(site, **values):
    return await site.service.report_correction(**{"entity": "PERSON", "actor": "ana", **values})


async def approve(site, info):
    return await site.service.review_correction(info.id, is_approved=True, actor="bob")


def read_correction(site):
    return site.read(lambda session: session.exec(select(Correction)).one())


async def test_a_phrase_that_should_have_been_masked_is_kept_encrypted_with_masked_surroundings(site):
    ticket_id = site.add_ticket(LEAK, external_id="1")
    info = await report(site, kind=MASK, text="Bo Ek", ticket_id=ticket_id)
    assert (info.phrase, info.context, info.status) == ("Bo Ek", "Ask ▮, said <PERSON_1>. ▮ knows.", CorrectionStatus.OPEN)
    row = read_correction(site)
    assert b"Bo Ek" not in row.ciphertext
    assert "Ek" not in row.model_dump_json(exclude={"ciphertext"})


async def test_without_a_vault_key_no_phrase_is_kept_but_a_hash(keyless):
    ticket_id = keyless.add_ticket(LEAK, external_id="1")
    info = await report(keyless, kind=MASK, text="Bo Ek", ticket_id=ticket_id)
    assert info.phrase is None
    assert info.context == "Ask ▮, said <PERSON_1>. ▮ knows."
    assert (read_correction(keyless).ciphertext, read_correction(keyless).hash_key) == (None, "salt")


async def test_an_approved_phrase_is_masked_from_then_on_in_any_spelling(site):
    info = await report(site, kind=MASK, text="Bo Ek")
    assert site.masker.mask("Call Bo Ek").text == "Call Bo Ek"
    await approve(site, info)
    mapping = PlaceholderMap()
    masked = site.masker.mask("Call bo  EK or Jasper; BO Ek's phone", mapping)
    assert masked.text == "Call <PERSON_1> or <PERSON_2>; <PERSON_1>'s phone"
    assert [text for _, text in masked.surfaces] == ["bo  EK", "Jasper", "BO Ek"]
    assert "Ek" not in site.masker.mask("Call Bo\u200b Ek").text


async def test_an_approved_phrase_is_masked_without_a_vault_key_too(keyless):
    await approve(keyless, await report(keyless, kind=MASK, text="Bo Ek"))
    assert keyless.masker.mask("Call Bo Ek").text == "Call <PERSON_1>"


async def test_what_is_not_personal_is_masked_no_longer_and_has_no_number(site):
    ticket_id = site.add_ticket("Jasper crashes, says Tom Berg", external_id="1")
    info = await report(site, kind=KEEP, text="<PERSON_1>", ticket_id=ticket_id)
    assert (info.phrase, info.context) == ("Jasper", "▮ crashes, says <PERSON_2>")
    await approve(site, info)
    mapping = PlaceholderMap()
    assert site.masker.mask("Jasper crashes, says Tom Berg", mapping).text == "Jasper crashes, says <PERSON_1>"
    assert len(mapping.entries) == 1


async def test_a_rejected_or_taken_back_correction_is_not_in_force(site):
    info = await approve(site, await report(site, kind=MASK, text="Bo Ek"))
    await site.service.review_correction(info.id, is_approved=False, actor="bob", reason="a mistake, says Tom Berg")
    assert site.masker.mask("Call Bo Ek").text == "Call Bo Ek"
    row = read_correction(site)
    assert (row.reason, row.ciphertext) == ("a mistake, says <PERSON_1>", None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": MASK, "text": "Nobody Here"}, "do not stand in the ticket"),
        ({"kind": MASK, "text": "Maria Gonzalez"}, "masked already"),
        ({"kind": MASK, "text": "<PERSON_1>"}, "masked already"),
        ({"kind": KEEP, "text": "Bo Ek"}, "not masked in the ticket"),
        ({"kind": KEEP, "text": "<PERSON_7>"}, "not kept"),
        ({"kind": MASK, "text": "?!"}, "at least two letters"),
        ({"kind": MASK, "text": "a " * 90}, "at most 12 words"),
        ({"kind": MASK, "text": "a" * 201}, "longer than 200"),
        ({"kind": MASK, "text": "Bo Ek", "entity": "LITERAL"}, "not a type"),
    ],
)
async def test_what_cannot_be_a_correction_is_refused_without_its_words(site, values, message):
    ticket_id = site.add_ticket(LEAK, external_id="1")
    with pytest.raises(BotError, match=message) as caught:
        await report(site, ticket_id=ticket_id, **values)
    assert values["text"] not in str(caught.value)
    assert site.read(lambda session: session.exec(select(Correction)).all()) == []


async def test_an_unknown_ticket_or_correction_and_a_second_answer_are_named_errors(site):
    with pytest.raises(NotFoundError):
        await report(site, kind=MASK, text="Bo Ek", ticket_id=99)
    with pytest.raises(NotFoundError):
        await site.service.review_correction(99, is_approved=True, actor="bob")
    info = await approve(site, await report(site, kind=MASK, text="Bo Ek"))
    with pytest.raises(ConflictError):
        await approve(site, info)


async def test_stored_texts_are_masked_with_the_tickets_own_numbers_and_the_vault_knows_them(site):
    ticket_id = site.add_ticket(LEAK, external_id="1", summary="Bo Ek must help", edited="Bo Ek helps Maria Gonzalez")
    await approve(site, await report(site, kind=MASK, text="Bo Ek", ticket_id=ticket_id))
    assert site.service.remask_pending() == 1
    texts = site.read(
        lambda s: [
            s.get(Ticket, ticket_id).text,
            *(row.output.get("text", "") for row in s.exec(select(Inference).order_by(Inference.id))),
            *(row.value for row in s.exec(select(FeedbackRow).order_by(FeedbackRow.id))),
            *(text for row in s.exec(select(Example)) for text in (row.text, row.target, row.draft or "")),
        ]
    )
    assert texts[0] == "Ask <PERSON_2>, said <PERSON_1>. <PERSON_2> knows."
    assert "<PERSON_2> must help" in texts
    assert "<PERSON_2> helps <PERSON_1>" in texts
    assert not any("Bo Ek" in text for text in texts)
    export = await site.service.export(Subject(ticket_ids=(ticket_id,)), actor="ana")
    assert export["tickets"][0]["ticket"]["text"] == LEAK
    assert read_correction(site).n_remasked == 1
    assert site.service.remask_pending() == 0


async def test_adapters_that_learned_from_the_raw_phrase_are_marked_and_the_clean_example_takes_its_place(site):
    ticket_id = site.add_ticket(LEAK, external_id="1")

    def teach(session):
        example = session.exec(select(Example)).one()
        run = add_run(session)
        adapter = add_adapter(session, run_id=run.id)
        run.adapter_digest = adapter.digest
        lineage.add_run_examples(session, run.id, [(example.id, Split.TRAIN)])
        adapters.activate_adapter(session, adapter.digest, actor="ana", reason="r")
        return example.id

    old_id = site.write(teach)
    await approve(site, await report(site, kind=MASK, text="Bo Ek", ticket_id=ticket_id))
    site.service.remask_pending()
    example, adapter = site.read(lambda s: (s.exec(select(Example)).one(), s.exec(select(Adapter)).one()))
    assert (example.id != old_id, example.ticket_id, example.is_withdrawn) == (True, ticket_id, False)
    assert example.text == "Ask <PERSON_2>, said <PERSON_1>. <PERSON_2> knows."
    assert (adapter.n_erased, adapter.erased_at is not None) == (1, True)
    assert len(site.read(list_wanted)) == 1


async def test_a_phrase_in_a_reason_of_the_audit_trail_is_masked_and_that_is_audited(site):
    site.write(lambda s: s.add(Audit(actor="x", action="y", subject_type="z", subject_id="1", detail={"reason": "Bo Ek asked"})))
    await approve(site, await report(site, kind=MASK, text="Bo Ek"))
    site.service.remask_pending()
    rows = site.read(list_audit)
    assert [row.detail for row in rows if row.action == "y"] == [{"reason": "<PERSON_1> asked"}]
    assert any(row.action == "text.scrub" for row in rows)


async def test_the_regression_set_says_which_phrase_the_masker_gets_right_and_why(site):
    ticket_id = site.add_ticket(LEAK + " Jasper", external_id="1")
    await approve(site, await report(site, kind=MASK, text="Bo Ek", ticket_id=ticket_id))
    await approve(site, await report(site, kind=KEEP, text="Jasper", ticket_id=ticket_id))
    found = site.service.run_regression()
    assert [(r.must_mask, r.is_passed, r.is_recognized) for r in found.results] == [(True, True, False), (False, True, False)]
    assert (found.n_failed, found.n_closed) == (0, 0)


async def test_a_correction_without_its_key_cannot_be_tried_and_is_counted(site, tmp_path):
    await approve(site, await report(site, kind=MASK, text="Bo Ek"))
    other = build_site(site.db_engine, tmp_path, [])
    assert other.service.run_regression().n_closed == 1
    assert other.masker.rules.n_unreadable == 1


async def test_the_phrase_stands_in_no_audit_row_and_no_representation(site):
    ticket_id = site.add_ticket(LEAK, external_id="1")
    await approve(site, await report(site, kind=MASK, text="Bo Ek", ticket_id=ticket_id))
    rows = site.read(list_audit)
    assert not any("Bo Ek" in row.model_dump_json() for row in rows)
    assert len(site.read(list_approved)) == 1
