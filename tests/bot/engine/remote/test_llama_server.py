"""The engine on a real llama-server against the local engine on the same file: answers equal by content, swaps that mix nothing."""

import asyncio
import shutil
from contextlib import ExitStack
from dataclasses import replace

import httpx
import numpy as np
import pytest

from bot.bundle import MANIFEST_FILE, write_json
from bot.engine.protocol import AdapterError, DeadlineError, EngineError, ModelFileError, RankRequest
from db.types import MaskedText, TaskKind
from tests.support.engine_cases import ask, make_text
from tests.support.model_servers import find_free_port, is_same_text, run_llama_server, write
from tests.support.tiny_decoder import make_tiny_decoder

TOLERANCE = 0.02
N_TEXTS = 12

only_encoder = pytest.mark.parametrize("kind", ["encoder"])
only_decoder = pytest.mark.parametrize("kind", ["decoder"])


async def count_busy(url):
    async with httpx.AsyncClient() as client:
        return sum(slot["is_processing"] for slot in (await client.get(f"{url}/slots")).json())


async def load_both(local, remote, sealed):
    digests = []
    for bundle in sealed:
        digests.append(await local.load(bundle.directory))
        assert await remote.load(bundle.directory) == digests[-1]
    return digests


async def test_scores_equal_the_local_engines_on_the_base_and_on_every_adapter(local, remote, sealed):
    digests = await load_both(local, remote, sealed)
    for digest in ("base", *digests[:2]):
        for number in range(N_TEXTS):
            mine, theirs = await asyncio.gather(
                local.score(ask(number, adapter=digest)), remote.score(ask(number, adapter=digest))
            )
            assert theirs.adapter_digest == digest
            assert theirs.n_tokens == mine.n_tokens
            assert theirs.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
            np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)
    spread = [(await remote.score(ask(3, adapter=digest))).probabilities for digest in ("base", *digests[:2])]
    assert min(np.abs(spread[a] - spread[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 3 * TOLERANCE


@only_encoder
async def test_rankings_and_embeddings_equal_the_local_engines(local, remote, sealed):
    digests = await load_both(local, remote, sealed)
    units = tuple(MaskedText(make_text(number)) for number in range(6))
    for digest in ("base", digests[1]):
        request = RankRequest(TaskKind.SUMMARY, units, (True, False) * 3, adapter=digest)
        mine, theirs = await local.rank(request), await remote.rank(request)
        np.testing.assert_allclose(theirs.scores, mine.scores, atol=TOLERANCE)
        mine, theirs = [await engine.embed(units, task=TaskKind.CLASSIFICATION, adapter=digest) for engine in (local, remote)]
        np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1.0, atol=1e-5)
        assert (mine * theirs).sum(axis=1).min() > 0.999


@only_encoder
async def test_long_texts_are_cut_where_the_local_engine_cuts_them(local, remote):
    text = MaskedText(" ".join(make_text(number) for number in range(40)))
    mine, theirs = await asyncio.gather(*(engine.score(replace(ask(0), text=text)) for engine in (local, remote)))
    assert mine.is_truncated
    assert theirs.is_truncated
    assert theirs.n_tokens == mine.n_tokens
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)


@only_decoder
async def test_greedy_text_equals_the_local_engines(local, remote, sealed):
    digests = await load_both(local, remote, sealed)
    for digest in ("base", digests[2]):
        for number in range(4):
            request = write(number, adapter=digest)
            mine, theirs = [chunk async for chunk in local.generate(request)], [chunk async for chunk in remote.generate(request)]
            assert is_same_text("".join(c.text for c in theirs), "".join(c.text for c in mine))
            assert {chunk.adapter_digest for chunk in theirs} == {digest}
            assert [chunk.is_last for chunk in theirs] == [False] * (len(theirs) - 1) + [True]
            assert theirs[-1].n_tokens == mine[-1].n_tokens


@only_decoder
async def test_control_sequences_of_a_ticket_stay_plain_characters(local, remote):
    text = MaskedText("my printer<|endoftext|> is broken")
    mine, theirs = await asyncio.gather(*(engine.score(replace(ask(0), text=text)) for engine in (local, remote)))
    assert theirs.n_tokens == mine.n_tokens
    np.testing.assert_allclose(theirs.probabilities, mine.probabilities, atol=TOLERANCE)


async def test_swaps_under_concurrent_requests_fail_none_and_mix_none(remote, sealed):
    first, second = [await remote.load(bundle.directory) for bundle in sealed[:2]]
    alone = {
        digest: [(await remote.score(ask(number, adapter=digest))).probabilities for number in range(5)]
        for digest in ("base", first, second)
    }
    answers = []
    is_over = asyncio.Event()

    async def keep_asking(number):
        while not is_over.is_set():
            answers.append((number % 5, await remote.score(ask(number % 5))))
            number += 8

    async def keep_swapping():
        for digest in (first, None, second, first, None) * 3:
            await remote.activate(TaskKind.CLASSIFICATION, digest)
            await asyncio.sleep(0.03)
        is_over.set()

    await asyncio.gather(keep_swapping(), *(keep_asking(number) for number in range(8)))
    assert {scores.adapter_digest for _, scores in answers} == {"base", first, second}
    wrong = [
        number
        for number, scores in answers
        if np.abs(scores.probabilities - alone[scores.adapter_digest][number]).max() > TOLERANCE
    ]
    assert not wrong
    assert len(answers) > 40


async def test_two_pinned_adapters_at_once_answer_each_for_itself(remote, sealed):
    first, second = [await remote.load(bundle.directory) for bundle in sealed[:2]]
    alone = {digest: (await remote.score(ask(1, adapter=digest))).probabilities for digest in ("base", first, second)}
    both = await asyncio.gather(*(remote.score(ask(1, adapter=digest)) for digest in ("base", first, second) * 8))
    for scores in both:
        np.testing.assert_allclose(scores.probabilities, alone[scores.adapter_digest], atol=TOLERANCE)


@only_decoder
async def test_a_prompt_read_under_another_adapter_is_not_reused(connect, path, server, sealed):
    """Cached prompts know no adapter in llama-server: with caching off, the same prompt under another adapter is read anew."""
    remote = await connect(path, server)
    digests = ["base", *[await remote.load(bundle.directory) for bundle in sealed[:2]]]
    cold = {digest: (await remote.score(ask(2, adapter=digest))).probabilities for digest in digests}
    for digest in (*digests, *reversed(digests)):
        again = (await remote.score(ask(2, adapter=digest))).probabilities
        np.testing.assert_allclose(again, cold[digest], atol=1e-4)


async def test_a_server_started_again_with_its_adapters_in_another_order_answers_as_before(connect, kind, path, sealed, servers):
    flags = ("--embeddings",) if kind == "encoder" else ()
    files = [bundle.adapter_path for bundle in sealed]
    port = find_free_port()
    first_life = servers.enter_context(ExitStack())
    url = first_life.enter_context(run_llama_server(path, *flags, loras=files, port=port))
    remote = await connect(path, url)
    digests = ["base", *[await remote.load(bundle.directory) for bundle in sealed[:2]]]
    before = {digest: (await remote.score(ask(4, adapter=digest))).probabilities for digest in digests}
    first_life.close()
    with pytest.raises(EngineError, match=f"{url} "):
        await remote.score(ask(4, adapter=digests[1]))
    assert url in remote.find_trouble()
    servers.enter_context(run_llama_server(path, *flags, loras=files[::-1], port=port))
    for digest in digests:
        after = (await remote.score(ask(4, adapter=digest))).probabilities
        np.testing.assert_allclose(after, before[digest], atol=TOLERANCE)
    assert remote.find_trouble() is None


async def test_an_adapter_the_server_was_not_started_with_is_refused_with_what_to_pass(connect, kind, path, sealed, servers):
    flags = ("--embeddings",) if kind == "encoder" else ()
    remote = await connect(path, servers.enter_context(run_llama_server(path, *flags, loras=[sealed[0].adapter_path])))
    await remote.load(sealed[0].directory)
    with pytest.raises(AdapterError, match=f"--lora {sealed[1].adapter_path} --lora-init-without-apply"):
        await remote.load(sealed[1].directory)
    assert remote.get_loaded() == (sealed[0].digest,)


@only_decoder
async def test_an_adapter_whose_weights_are_not_what_the_probe_saw_is_refused(connect, path, sealed, servers, tmp_path):
    """The folder's name says the first bundle, the file on the server is the second's."""
    mounted = tmp_path / "mounted" / sealed[0].digest
    mounted.mkdir(parents=True)
    shutil.copy(sealed[1].adapter_path, mounted / "adapter.gguf")
    remote = await connect(path, servers.enter_context(run_llama_server(path, loras=[mounted / "adapter.gguf"])))
    with pytest.raises(AdapterError, match="fails its probe"):
        await remote.load(sealed[0].directory)


@only_decoder
async def test_adapters_folder_mounted_elsewhere_is_found_by_its_digest(connect, path, sealed, servers, tmp_path):
    mounted = tmp_path / "mounted" / sealed[0].digest
    shutil.copytree(sealed[0].directory, mounted)
    remote = await connect(path, servers.enter_context(run_llama_server(path, loras=[mounted / "adapter.gguf"])))
    assert await remote.load(sealed[0].directory) == sealed[0].digest


@only_decoder
async def test_an_adapter_of_another_base_is_refused(remote, sealed, tmp_path):
    work = tmp_path / "other"
    shutil.copytree(sealed[0].directory, work)
    manifest = sealed[0].manifest.model_copy(update={"base_digest": "0" * 64})
    write_json(work / MANIFEST_FILE, manifest)
    with pytest.raises(AdapterError, match="belongs to base model 000000000000"):
        await remote.load(work)


@only_decoder
async def test_a_server_of_another_model_is_refused_at_the_start(connect, path, server, tmp_path):
    larger = make_tiny_decoder(tmp_path / "larger.gguf", n_layer=3)
    with pytest.raises(ModelFileError, match="serves another model than larger"):
        await connect(larger, server)
    reseeded = make_tiny_decoder(tmp_path / "reseeded.gguf", seed=9)
    with pytest.raises(ModelFileError, match="bytes differ"):
        await connect(reseeded, server)


async def test_closing_the_stream_ends_the_work_on_the_server(connect, slow_path, servers):
    server = servers.enter_context(run_llama_server(slow_path))
    remote = await connect(slow_path, server)
    stream = remote.generate(write(1, max_tokens=1500, stop=()))
    await anext(stream)
    assert await count_busy(server) == 1
    await stream.aclose()
    for _ in range(100):
        if await count_busy(server) == 0:
            break
        await asyncio.sleep(0.05)
    assert await count_busy(server) == 0
    assert remote.n_pending == 0


async def test_a_deadline_ends_a_text_and_a_score(connect, slow_path, servers):
    remote = await connect(slow_path, servers.enter_context(run_llama_server(slow_path)))
    with pytest.raises(DeadlineError, match="deadline of 0"):
        async for _ in remote.generate(write(1, max_tokens=1500, stop=(), deadline_s=0.05)):
            pass
    with pytest.raises(DeadlineError):
        await remote.score(ask(1, deadline_s=0.0))
    assert (await remote.score(ask(1))).probabilities.sum() == pytest.approx(1.0, abs=1e-5)


@only_decoder
async def test_a_server_that_is_down_is_named_at_the_start(connect, path):
    url = f"http://127.0.0.1:{find_free_port()}"
    with pytest.raises(EngineError, match=f"{url} cannot be reached"):
        await connect(path, url)


@only_decoder
async def test_a_key_is_sent_and_never_told(connect, path, sealed, servers):
    url = servers.enter_context(run_llama_server(path, "--api-key", "sesame-7"))
    with pytest.raises(EngineError, match="UNDERSTUDY_REMOTE_API_KEY") as refused:
        await connect(path, url, api_key="wrong-8")
    assert "wrong-8" not in repr(refused.value)
    remote = await connect(path, url, api_key="sesame-7")
    assert (await remote.score(ask(1))).adapter_digest == "base"
