"""The remote engine's parts alone: the gate between adapters, the HTTP client's failures, settings, and split control sequences."""

import asyncio
import logging

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import ValidationError

from bot.engine.protocol import DeadlineError, EngineError
from bot.engine.remote.controls import read_control_tokens, split_at_controls
from bot.engine.remote.gate import GroupGate
from bot.engine.remote.http import HttpClient
from bot.engine.remote.settings import RemoteSettings, ServerChoice
from db.types import TaskKind
from tests.support.fake_vllm import serve


class Switched:
    """Notes which group the server is set to and fails where told."""

    def __init__(self):
        self.history = []
        self.failing = set()

    async def __call__(self, group):
        await asyncio.sleep(0)
        if group in self.failing:
            raise EngineError(f"no {group}")
        self.history.append(group)


async def hold(gate, group, switched, *, steps=3):
    async with gate.hold(group):
        for _ in range(steps):
            assert switched.history[-1] == group
            await asyncio.sleep(0)
    return group


async def test_requests_of_one_group_run_together_and_groups_never_overlap():
    switched = Switched()
    gate = GroupGate(switched)
    done = await asyncio.gather(*(hold(gate, group, switched) for group in "aabbabab" * 4))
    assert done == list("aabbabab" * 4)
    assert switched.history == ["a", "b"]


async def test_two_groups_under_load_take_turns():
    switched = Switched()
    gate = GroupGate(switched)

    async def keep_on(group):
        for _ in range(10):
            await hold(gate, group, switched)

    await asyncio.gather(*(keep_on(group) for group in "aaab"))
    assert switched.history.count("b") == 10
    assert switched.history.count("a") >= 9


async def test_a_failed_switch_fails_its_own_requests_alone():
    switched = Switched()
    switched.failing = {"b"}
    gate = GroupGate(switched)
    results = await asyncio.gather(*(hold(gate, group, switched) for group in "abab"), return_exceptions=True)
    assert [str(result) for result in results] == ["a", "no b", "a", "no b"]
    assert gate.current is None
    assert await hold(gate, "a", switched) == "a"


async def test_a_request_that_goes_away_while_it_waits_blocks_nobody():
    switched = Switched()
    gate = GroupGate(switched)
    waiting = [asyncio.create_task(hold(gate, group, switched, steps=5)) for group in "abbc"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[1].cancel()
    waiting[2].cancel()
    assert await waiting[3] == "c"
    assert "b" not in switched.history


@pytest.fixture
async def web():
    """An app with every way to misbehave; yields its URL."""
    app = FastAPI()

    @app.get("/text")
    async def say_text():
        return PlainTextResponse("hello")

    @app.get("/slow")
    async def wait():
        await asyncio.sleep(0.5)

    @app.post("/broken")
    async def break_off():
        async def write():
            yield 'data: {"a": "one\u2028line\x85"}\n\n'
            yield "error: out of memory\n\n"

        return StreamingResponse(write(), media_type="text/event-stream")

    async with serve(app) as url:
        yield url


@pytest.fixture
async def client(web):
    client = HttpClient(web, RemoteSettings(timeout_s=0.2, api_key="sesame-7"))
    client.open()
    yield client
    await client.close()


async def test_an_answer_that_is_no_json_names_the_server(client, web):
    with pytest.raises(EngineError, match=f"{web} answered /text with something that is not JSON"):
        await client.get("/text")


async def test_a_slow_answer_is_a_passed_deadline_and_says_nothing_of_the_servers_health(client):
    with pytest.raises(DeadlineError, match=r"did not answer /slow within 0\.2 s"):
        await client.get("/slow")
    assert client.trouble is None


async def test_a_stream_that_breaks_off_says_why(client):
    stream = client.stream("/broken", {})
    assert await anext(stream) == {"a": "one\u2028line\x85"}
    with pytest.raises(EngineError, match="broke off: out of memory"):
        await anext(stream)


async def test_the_key_is_in_no_log_line_and_no_representation(client, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError):
        await client.get("/text")
    assert "sesame-7" not in caplog.text
    assert "sesame-7" not in repr(RemoteSettings(api_key="sesame-7"))


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://user:secret@host", "http://host?key=secret"])
def test_urls_that_cannot_serve_or_hold_secrets_are_refused(url):
    with pytest.raises(ValidationError, match="server's URL"):
        RemoteSettings(classification_url=url)


def test_a_url_may_end_as_openai_clients_write_it_and_each_task_has_its_own():
    settings = RemoteSettings(summary_url="http://host:8000/v1/", summary_backend="openai", summary_model="m")
    assert settings.choose(TaskKind.SUMMARY) == ServerChoice("http://host:8000", "openai", "m")
    assert settings.choose(TaskKind.CLASSIFICATION) is None


def test_control_sequences_are_known_from_the_file_and_cut_apart(decoder_path):
    controls = read_control_tokens(decoder_path)
    assert "<|endoftext|>" in controls.values()
    assert "the" not in controls.values()
    text = "a <|endoftext|><|endoftext|> b"
    pieces = split_at_controls(text, controls.values())
    assert "".join(pieces) == text
    assert not any("<|endoftext|>" in piece for piece in pieces)
    assert split_at_controls("plain", controls.values()) == ["plain"]
