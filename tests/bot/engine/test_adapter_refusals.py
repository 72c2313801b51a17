"""Bundles that must not serve: each is refused with a reason, and what was live stays live. On both kinds of engine."""

import asyncio
import shutil

import numpy as np
import pytest

from bot.bundle import ADAPTER_FILE, PROBE_FILE, Probe
from bot.engine.proof import compare_probe
from bot.engine.protocol import AdapterError, EngineError, NoEffectError
from db.types import ModelKind, TaskKind
from tests.support.engine_cases import CHOICES, ask, both_kinds
from tests.support.tiny_decoder import make_lora, make_manifest, make_tiny_decoder
from tests.support.tiny_encoder import make_tiny_encoder

TASK = TaskKind.CLASSIFICATION
TOLERANCE = 0.01


async def load(engine, bundle):
    return await engine.load(bundle.directory)


async def score_all(engine, count=8, **changes):
    answers = await asyncio.gather(*(engine.score(ask(number, **changes)) for number in range(count)))
    return np.array([answer.probabilities for answer in answers])


@both_kinds
async def test_an_adapter_of_another_base_is_refused(engine, bundles):
    manifest = make_manifest(engine=engine, task=TASK, labels=CHOICES.names, base_digest="0" * 64)
    bundle = await bundles(1, manifest=manifest)
    with pytest.raises(AdapterError, match="belongs to base model 000000000000"):
        await load(engine, bundle)
    assert engine.get_loaded() == ()


@both_kinds
async def test_a_tampered_bundle_is_refused(engine, bundles):
    bundle = await bundles(1)
    file = bundle.directory / ADAPTER_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(AdapterError, match="changed after it was written"):
        await load(engine, bundle)


@both_kinds
async def test_a_folder_that_is_no_bundle_is_refused(engine, tmp_path):
    with pytest.raises(AdapterError, match="is not an adapter bundle"):
        await engine.load(tmp_path)


@both_kinds
async def test_a_probe_mismatch_is_refused_and_what_was_live_stays_live(engine, bundles):
    live = await load(engine, await bundles(1))
    await engine.activate(TASK, live)
    before = await score_all(engine)
    good = await bundles(2)
    wrong = Probe.model_validate_json((good.directory / PROBE_FILE).read_bytes())
    rows = tuple(tuple(value + 0.3 for value in row) for row in wrong.expected)
    bad = await bundles(3, probe=wrong.model_copy(update={"expected": rows}))
    with pytest.raises(AdapterError, match="fails its probe: outputs differ"):
        await load(engine, bad)
    assert engine.get_loaded() == (live,)
    assert engine.get_active(TASK) == live
    np.testing.assert_allclose(await score_all(engine), before, atol=TOLERANCE)


@both_kinds
async def test_weights_that_change_nothing_are_refused(engine, bundles):
    with pytest.raises(NoEffectError, match="learned nothing"):
        await load(engine, await bundles(1, strength=0.0))


def test_weights_that_learned_something_and_are_not_applied_are_no_such_case():
    probe = Probe(texts=("a",), expected=((0.51, 0.49),), base=((0.5, 0.5),))
    with pytest.raises(AdapterError, match="change nothing, so they are not applied") as caught:
        compare_probe("d" * 64, ((0.5, 0.5),), base=((0.5, 0.5),), probe=probe, has_lora=True)
    assert not isinstance(caught.value, NoEffectError)


@both_kinds
async def test_another_adapters_weights_under_a_probe_are_refused(engine, bundles, model_path, tmp_path):
    bundle = await bundles(1)
    work = shutil.copytree(bundle.directory, tmp_path / "swapped")
    make_lora(work / ADAPTER_FILE, model_path, seed=9)
    with pytest.raises(AdapterError, match="fails its probe"):
        await engine.load(work)


@both_kinds
async def test_an_incomplete_probe_is_refused(engine, bundles):
    with pytest.raises(AdapterError, match="incomplete probe"):
        await load(engine, await bundles(1, probe=Probe(texts=(), expected=(), base=())))


@both_kinds
async def test_tensors_that_match_nothing_are_refused(engine, bundles, model_path, tmp_path):
    bundle = await bundles(1)
    work = shutil.copytree(bundle.directory, tmp_path / "renamed")
    file = work / ADAPTER_FILE
    make_lora(file, model_path)
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up", b"blk.7.ffn_up"))
    with pytest.raises(AdapterError, match=r"blk\.7\.ffn_up.* matches nothing"):
        await engine.load(work)
    await engine.score(ask(1))


@both_kinds
async def test_tensors_of_another_size_are_refused(engine, bundles, tmp_path):
    bundle = await bundles(1)
    work = shutil.copytree(bundle.directory, tmp_path / "bigger")
    make = make_tiny_encoder if engine.kind == ModelKind.ENCODER else make_tiny_decoder
    make_lora(work / ADAPTER_FILE, make(tmp_path / "big.gguf", n_embd=128))
    with pytest.raises(AdapterError, match="matches nothing"):
        await engine.load(work)


@both_kinds
async def test_a_truncated_adapter_file_is_refused(engine, bundles, tmp_path):
    bundle = await bundles(1)
    work = shutil.copytree(bundle.directory, tmp_path / "cut")
    file = work / ADAPTER_FILE
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(AdapterError, match="cut short"):
        await engine.load(work)


@both_kinds
async def test_an_adapter_is_refused_for_a_task_it_was_not_trained_for(engine, bundles):
    digest = await load(engine, await bundles(1))
    with pytest.raises(AdapterError, match="trained for classification"):
        await engine.activate(TaskKind.SUMMARY, digest)
    assert engine.get_active(TaskKind.SUMMARY) == "base"


@both_kinds
async def test_what_is_not_loaded_cannot_answer_or_become_active(engine):
    with pytest.raises(EngineError, match="is not loaded"):
        await engine.score(ask(1, adapter="f" * 64))
    with pytest.raises(EngineError, match="is not loaded"):
        await engine.activate(TASK, "f" * 64)
    await engine.unload("f" * 64)  # idempotent: what is not there is gone already
