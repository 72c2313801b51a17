"""Rotating the vault's key: everything moves to the newest one, hashes of corrections stay in force, lost keys are counted."""

from bot.masking import Vault
from bot.plugin_api import CorrectionKind, Subject
from bot.privacy.keys import get_status, rotate
from bot.sealing import Sealer
from db.queries.audit import list_audit
from db.queries.values import get_value, put_value
from tests.bot.privacy.conftest import build_site


async def correct(site, text="Bo Ek", ticket_id=None):
    info = await site.service.report_correction(
        kind=CorrectionKind.MASK, entity="PERSON", text=text, actor="ana", ticket_id=ticket_id
    )
    await site.service.review_correction(info.id, is_approved=True, actor="bob")


async def test_after_a_rotation_the_old_key_can_be_removed(site, tmp_path, keys):
    ticket_id = site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    await correct(site)
    site.write(lambda s: put_value(s, plugin="desk", key="k", ciphertext=Sealer(keys).seal({"a": 1})))
    new = Vault.new_key()
    both = [new, *keys]
    done = rotate(site.db_engine, Vault.from_keys(both), Sealer(both), actor="ana")
    assert (done.rotated, done.is_done) == ({"placeholder maps": 1, "phrases": 1, "plugin values": 1}, True)
    alone = build_site(site.db_engine, tmp_path, [new])
    export = await alone.service.export(Subject(ticket_ids=(ticket_id,)), actor="ana")
    assert export["tickets"][0]["ticket"]["text"] == "Maria Gonzalez wrote."
    await alone.service.reload()
    assert alone.masker.mask("Bo Ek").text == "<PERSON_1>"
    assert Sealer([new]).unseal(alone.read(lambda s: get_value(s, plugin="desk", key="k"))) == {"a": 1}
    assert site.read(lambda s: list_audit(s, action="vault.rotate"))[0].actor == "ana"


async def test_a_rotation_a_second_time_changes_no_map_and_no_phrase(site, keys):
    site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    await correct(site)
    done = rotate(site.db_engine, site.vault, Sealer(keys), actor="ana")
    assert done.rotated == {}


def test_entries_under_a_lost_key_are_counted_and_left(site, keys):
    site.add_ticket("Maria Gonzalez wrote.", external_id="1")
    lost = Vault.from_keys([Vault.new_key()])
    done = rotate(site.db_engine, lost, Sealer([Vault.new_key()]), actor="ana")
    assert (done.n_unreadable, done.is_done) == (1, False)
    status = get_status(site.db_engine, site.vault, Sealer(keys))
    assert (status.n_maps, status.n_unreadable) == ({site.vault.fingerprints[0]: 1}, 0)
    assert get_status(site.db_engine, lost, Sealer([Vault.new_key()])).n_unreadable == 1


def test_the_status_counts_what_plugins_keep_by_key_and_what_is_under_the_installations_own(site, keys):
    own, lost, old = Vault.new_key(), Vault.new_key(), keys[0]
    for name, key in (("a", old), ("b", own), ("c", lost)):
        site.write(lambda s, n=name, k=key: put_value(s, plugin="desk", key=n, ciphertext=Sealer([k]).seal({"a": 1})))
    new = Vault.new_key()
    vault, sealer = Vault.from_keys([new, old]), Sealer([new, old, own])
    status = get_status(site.db_engine, vault, sealer)
    assert (status.n_plugin_rows, status.n_own, status.n_unreadable) == ({vault.fingerprints[1]: 1}, 1, 1)
    rotate(site.db_engine, vault, sealer, actor="ana")
    status = get_status(site.db_engine, vault, sealer)
    assert (status.n_plugin_rows, status.n_own, status.n_unreadable) == ({vault.fingerprints[0]: 2}, 0, 1)


async def test_a_bare_hash_under_the_old_key_is_named(site, keys):
    ticket_id = site.add_ticket("Bo Ek wrote.", external_id="1")
    await correct(site, ticket_id=ticket_id)
    await site.service.erase(Subject(ticket_ids=(ticket_id,)), actor="ana", reason="")
    both = [Vault.new_key(), *keys]
    done = rotate(site.db_engine, Vault.from_keys(both), Sealer(both), actor="ana")
    assert (done.n_bare, done.is_done) == (1, False)


def test_a_vault_shows_no_key_and_tells_keys_apart_by_fingerprint(keys):
    vault = Vault.from_keys([Vault.new_key(), *keys])
    assert keys[0] not in repr(vault) + str(vault.fingerprints)
    old = Vault.from_keys(keys)
    assert vault.fingerprints[1] == old.fingerprints[0]
    assert vault.find_key(old.encrypt_text("x")) == 1
    assert vault.decrypt_text(old.encrypt_text("x")) == "x"
    assert Vault.from_keys([Vault.new_key()]).find_key(old.encrypt_text("x")) is None
