"""A stand-in for vLLM's server: it speaks vLLM's documented API and has a real llama-server compute what it answers.

Names and shapes follow vLLM's `CompletionRequest`, its LoRA endpoints and their documented answers. It is no vLLM: what only that program
does (batching, its own kernels, its tokenizer) is not shown by a test on it.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

BASE_MODEL = "tiny-base"


class FakeVllm:
    """The server's state. `calls` are the paths asked for; `loads` the bodies of load requests; `fail_next` statuses to answer with."""

    def __init__(self, llama_url: str, *, has_runtime_lora: bool = True, knows_token_ids: bool = True) -> None:
        self.llama = httpx.AsyncClient(base_url=llama_url, timeout=60)
        self.loaded: dict[str, int] = {}
        self.calls: list[str] = []
        self.loads: list[dict[str, Any]] = []
        self.fail_next: list[int] = []
        self.ignores_adapters = False
        self.knows_token_ids = knows_token_ids
        self.app = self._build(has_runtime_lora=has_runtime_lora)

    def _build(self, *, has_runtime_lora: bool) -> FastAPI:
        app = FastAPI()
        app.middleware("http")(self._note)
        app.get("/v1/models")(self.list_models)
        app.post("/tokenize")(self.tokenize)
        app.post("/v1/completions")(self.complete)
        if has_runtime_lora:
            app.post("/v1/load_lora_adapter")(self.load)
            app.post("/v1/unload_lora_adapter")(self.unload)
        return app

    async def _note(self, request: Request, call_next):
        self.calls.append(request.url.path)
        if self.fail_next:
            status = self.fail_next.pop(0)
            return JSONResponse(refuse("told to fail", status), status_code=status)
        return await call_next(request)

    async def list_models(self) -> dict[str, Any]:
        base = {"id": BASE_MODEL, "object": "model", "owned_by": "vllm", "parent": None, "max_model_len": 2048}
        return {
            "object": "list",
            "data": [base, *({"id": name, "object": "model", "parent": BASE_MODEL} for name in self.loaded)],
        }

    async def tokenize(self, request: Request):
        body = await request.json()
        asked = {"content": body["prompt"], "add_special": body["add_special_tokens"], "parse_special": True}
        tokens = (await self.llama.post("/tokenize", json=asked)).json()["tokens"]
        return {"count": len(tokens), "max_model_len": 2048, "tokens": tokens}

    async def load(self, request: Request):
        body = await request.json()
        self.loads.append(body)
        name = body["lora_name"]
        if name in self.loaded:
            message = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
            return JSONResponse(refuse(message, 400), status_code=400)
        listed = (await self.llama.get("/lora-adapters")).json()
        found = [entry["id"] for entry in listed if entry["path"].startswith(body["lora_path"] + "/")]
        if not found:
            message = f"Loading lora {name} failed: No adapter found for {body['lora_path']}"
            return JSONResponse(refuse(message, 404), status_code=404)
        self.loaded[name] = found[0]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request):
        name = (await request.json())["lora_name"]
        if self.loaded.pop(name, None) is None:
            return JSONResponse(refuse(f"The lora adapter '{name}' cannot be found.", 404), status_code=404)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def complete(self, request: Request):
        body = await request.json()
        model = body["model"]
        if model != BASE_MODEL and model not in self.loaded:
            return JSONResponse(refuse(f"The model `{model}` does not exist.", 404), status_code=404)
        n_loras = len((await self.llama.get("/lora-adapters")).json())
        at = None if self.ignores_adapters else self.loaded.get(model)
        asked = {
            "prompt": body["prompt"],
            "n_predict": body["max_tokens"],
            "temperature": body["temperature"],
            "cache_prompt": False,
            "lora": [{"id": number, "scale": float(number == at)} for number in range(n_loras)],
        }
        if body.get("stream"):
            return StreamingResponse(
                self._stream(model, asked | {"stream": True, "stop": body.get("stop", [])}), media_type="text/event-stream"
            )
        # the probabilities are left out where half a character is drawn: favour a whole one, which changes none of them
        found = (await self.llama.post("/completion", json=asked | {"n_probs": 512, "logit_bias": [["a", 100]]})).json()
        listed = {entry["id"]: entry["logprob"] for entry in found["completion_probabilities"][0]["top_logprobs"]}
        best = sorted(listed, key=listed.get, reverse=True)[: body["logprobs"]]
        chosen = body["logprob_token_ids"] if self.knows_token_ids and body.get("logprob_token_ids") else best
        top = {f"token_id:{token}": listed[token] for token in chosen}
        logprobs = {
            "text_offset": [0],
            "token_logprobs": [listed[best[0]]],
            "tokens": [f"token_id:{best[0]}"],
            "top_logprobs": [top],
        }
        choice = {"index": 0, "text": found["content"], "logprobs": logprobs, "finish_reason": "length", "stop_reason": None}
        usage = {
            "prompt_tokens": found["tokens_evaluated"],
            "completion_tokens": 1,
            "total_tokens": found["tokens_evaluated"] + 1,
        }
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model, "choices": [choice], "usage": usage}

    async def _stream(self, model: str, asked: dict[str, Any]) -> AsyncIterator[str]:
        n_written = 0
        async with self.llama.stream("POST", "/completion", json=asked) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line[5:])
                n_written = max(n_written, event["tokens_predicted"])
                reason = ("length" if event.get("stop_type") == "limit" else "stop") if event["stop"] else None
                yield format_event(model, [{"index": 0, "text": event["content"], "finish_reason": reason}])
        yield format_event(model, [], usage={"prompt_tokens": 1, "completion_tokens": n_written, "total_tokens": n_written + 1})
        yield "data: [DONE]\n\n"


def refuse(message: str, status: int) -> dict[str, Any]:
    """An error in the form that vLLM answers with."""
    return {"error": {"message": message, "type": "InvalidUserInput", "param": None, "code": status}}


def format_event(model: str, choices: list[dict[str, Any]], **more: Any) -> str:
    """One server-sent event of a streamed completion."""
    return (
        "data: " + json.dumps({"id": "cmpl-1", "object": "text_completion", "model": model, "choices": choices, **more}) + "\n\n"
    )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[str]:
    """Run an app on this event loop and yield its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def run_fake_vllm(llama_url: str, **options: Any) -> AsyncIterator[tuple[str, FakeVllm]]:
    """Run the stand-in before a llama-server; yields its URL and its state."""
    fake = FakeVllm(llama_url, **options)
    async with fake.llama, serve(fake.app) as url:
        yield url, fake
