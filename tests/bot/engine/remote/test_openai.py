"""The engine on OpenAI-compatible servers: a real llama-server's OpenAI endpoints, and a stand-in that speaks vLLM's documented API."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pytest

from bot.bundle import PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE, seal
from bot.engine.protocol import AdapterError, EngineError, QueueFullError
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import ask, make_text
from tests.support.fake_vllm import BASE_MODEL, run_fake_vllm
from tests.support.model_servers import is_same_text, run_llama_server, write

TOLERANCE = 0.02

only_encoder = pytest.mark.parametrize("kind", ["encoder"])
only_decoder = pytest.mark.parametrize("kind", ["decoder"])


@pytest.fixture
def peft(sealed, tmp_path):
    """The bundles once more, with PEFT's files in them (the stand-in reads adapter.gguf; a real vLLM would read these)."""
    folders = []
    for number, bundle in enumerate(sealed):
        work = tmp_path / f"peft-{number}"
        shutil.copytree(bundle.directory, work)
        (work / PEFT_WEIGHTS_FILE).write_bytes(b"weights")
        (work / PEFT_CONFIG_FILE).write_text("{}")
        folders.append(seal(work, tmp_path / "peft"))
    return folders


@pytest.fixture
async def vllm(path, peft, servers):
    """The stand-in's URL and state, before a llama-server that has the adapters."""
    llama = servers.enter_context(run_llama_server(path, loras=[bundle.adapter_path for bundle in peft]))
    async with run_fake_vllm(llama) as started:
        yield started


@pytest.fixture
async def engine(connect, path, vllm):
    return await connect(path, vllm[0], backend="openai", model=BASE_MODEL)


@only_decoder
async def test_base_scores_and_texts_of_llama_servers_openai_endpoints_equal_the_local_engines(connect, local, path, servers):
    url = servers.enter_context(run_llama_server(path))
    engine = await connect(path, url, backend="openai", top_logprobs=512)
    for number in range(6):
        mine, theirs = await asyncio.gather(local.score(ask(number)), engine.score(ask(number)))
        np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)
        mine, theirs = [[chunk async for chunk in one.generate(write(number))] for one in (local, engine)]
        assert is_same_text("".join(c.text for c in theirs), "".join(c.text for c in mine))
        assert theirs[-1].is_last


@only_encoder
async def test_base_scores_of_llama_servers_openai_embeddings_equal_the_local_engines(connect, local, path, servers):
    url = servers.enter_context(run_llama_server(path, "--embeddings"))
    engine = await connect(path, url, backend="openai")
    for number in range(6):
        mine, theirs = await asyncio.gather(local.score(ask(number)), engine.score(ask(number)))
        np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)
        assert theirs.n_tokens == mine.n_tokens


@only_decoder
async def test_adapters_are_loaded_proven_used_and_unloaded_while_it_runs(engine, vllm, local, peft):
    _, fake = vllm
    digests = [await engine.load(bundle.directory) for bundle in peft]
    assert fake.loads[0] == {"lora_name": digests[0], "lora_path": str(peft[0].directory)}
    for bundle in peft[:2]:
        await local.load(bundle.directory)
    for digest in ("base", *digests[:2]):
        for number in range(4):
            mine, theirs = await asyncio.gather(
                local.score(ask(number, adapter=digest)), engine.score(ask(number, adapter=digest))
            )
            np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)
            assert theirs.adapter_digest == digest
    text = [chunk async for chunk in engine.generate(write(1, adapter=digests[2]))]
    assert {chunk.adapter_digest for chunk in text} == {digests[2]}
    await engine.activate(TaskKind.CLASSIFICATION, digests[0])
    await engine.unload(digests[1])
    assert set(fake.loaded) == {digests[0], digests[2]}
    assert (await engine.score(ask(0))).adapter_digest == digests[0]


@only_decoder
async def test_swaps_under_concurrent_requests_fail_none_and_mix_none(engine, peft):
    first, second = [await engine.load(bundle.directory) for bundle in peft[:2]]
    alone = {
        digest: [(await engine.score(ask(number, adapter=digest))).probabilities for number in range(3)]
        for digest in ("base", first, second)
    }
    answers = []
    is_over = asyncio.Event()

    async def keep_asking(number):
        while not is_over.is_set():
            answers.append((number % 3, await engine.score(ask(number % 3))))
            number += 8

    async def keep_swapping():
        for digest in (first, None, second, first, None):
            await engine.activate(TaskKind.CLASSIFICATION, digest)
            await asyncio.sleep(0.1)
        is_over.set()

    await asyncio.gather(keep_swapping(), *(keep_asking(number) for number in range(8)))
    assert {scores.adapter_digest for _, scores in answers} == {"base", first, second}
    for number, scores in answers:
        np.testing.assert_allclose(scores.probabilities, alone[scores.adapter_digest][number], atol=TOLERANCE)


@only_decoder
async def test_a_server_that_forgot_an_adapter_gets_it_again(engine, vllm, peft):
    digest = await engine.load(peft[0].directory)
    before = (await engine.score(ask(1, adapter=digest))).probabilities
    vllm[1].loaded.clear()
    np.testing.assert_allclose((await engine.score(ask(1, adapter=digest))).probabilities, before, atol=TOLERANCE)
    assert len(vllm[1].loads) == 2


@only_decoder
async def test_an_adapter_that_the_server_has_already_is_taken_as_it_is(connect, path, vllm, peft):
    for _ in range(2):
        engine = await connect(path, vllm[0], backend="openai")
        assert await engine.load(peft[0].directory) == peft[0].digest
    assert len(vllm[1].loads) == 2


@only_decoder
async def test_a_server_that_ignores_adapters_fails_the_probe(engine, vllm, peft):
    vllm[1].ignores_adapters = True
    with pytest.raises(AdapterError, match="fails its probe"):
        await engine.load(peft[0].directory)
    assert engine.get_loaded() == ()
    assert vllm[1].loaded == {}


@only_decoder
async def test_a_bundle_without_peft_files_is_refused_with_what_is_missing(engine, sealed):
    with pytest.raises(AdapterError, match=f"has no {PEFT_WEIGHTS_FILE}"):
        await engine.load(sealed[0].directory)


@only_decoder
async def test_a_server_without_runtime_lora_is_refused_with_how_to_start_it(connect, path, peft, servers):
    llama = servers.enter_context(run_llama_server(path))
    async with AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(run_fake_vllm(llama, has_runtime_lora=False))
        engine = await connect(path, url, backend="openai")
        with pytest.raises(AdapterError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
            await engine.load(peft[0].directory)


@only_decoder
async def test_adapters_folder_mounted_elsewhere_is_named_as_the_server_sees_it(connect, path, vllm, peft):
    engine = await connect(path, vllm[0], backend="openai", adapters_dir="/mnt/adapters")
    with pytest.raises(AdapterError, match=f"No adapter found for /mnt/adapters/{peft[0].digest}"):
        await engine.load(peft[0].directory)


@only_decoder
async def test_control_sequences_of_a_ticket_are_not_read_as_such(engine, local):
    text = MaskedText("my printer<|endoftext|> is broken")
    mine, theirs = await asyncio.gather(*(one.score(replace(ask(0), text=text)) for one in (local, engine)))
    assert abs(theirs.n_tokens - mine.n_tokens) <= 1
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=0.2)


@only_decoder
async def test_where_only_the_most_probable_tokens_are_listed_the_rest_share_what_is_left(connect, path, servers):
    llama = servers.enter_context(run_llama_server(path))
    async with run_fake_vllm(llama, knows_token_ids=False) as (url, _):
        whole = await connect(path, url, backend="openai", top_logprobs=512)
        few = await connect(path, url, backend="openai", top_logprobs=3)
        known, guessed = [(await one.score(ask(1))).probabilities for one in (whole, few)]
    assert guessed.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(known - guessed).max() > TOLERANCE  # three tokens of 512 do not tell the labels apart


@only_decoder
@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_is_full_is_a_full_queue(engine, vllm, status):
    await engine.score(ask(1))
    vllm[1].fail_next = [status]
    with pytest.raises(QueueFullError, match="try again"):
        await engine.score(ask(2))
    assert (await engine.score(ask(3))).adapter_digest == "base"


@only_decoder
async def test_an_error_of_the_server_is_told_without_the_tickets_text(engine, vllm):
    await engine.score(ask(1))
    vllm[1].fail_next = [500]
    with pytest.raises(EngineError, match=f"{vllm[0]} answered /tokenize with 500") as refused:
        await engine.score(ask(2))
    assert make_text(2) not in str(refused.value)


@only_decoder
async def test_a_model_the_server_does_not_list_is_refused_at_the_start(connect, path, vllm):
    with pytest.raises(EngineError, match=f"does not serve other; it lists: {BASE_MODEL}"):
        await connect(path, vllm[0], backend="openai", model="other")
