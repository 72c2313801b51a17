"""The other sides of the encoder's comparison: llama-server's embedding endpoint, sentence-transformers, and the bare `llama_decode`.

Knows how each is asked at its best; nothing of our engine's queue and head.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benches.clients import HTTPClient
from benches.paths import LOG_DIR, ROOT, BenchError, read_tail
from benches.tools import ensure_python_peer
from bot.engine.gguf_file import read_model_head
from bot.engine.llama import POOLING_MEAN, ContextSettings, LlamaContext, LlamaModel, LoraAdapter
from bot.models.default import find_package_model

MAX_TOKENS: Final = 256
BATCH_SIZES: Final = (8, 32)
"""sentence-transformers is given all tickets at once, as a list; of these batch sizes (32 is its default) the faster one counts."""
LIMIT_BUDGETS: Final = (96, 128, 192, 256, 384, 512)
_MAX_SEQUENCES: Final = 64


def get_server_args(*, threads: int, lora: Path | None, slots: int) -> list[str]:
    """Return llama-server's flags for embeddings: one slot per client, and a batch that holds what the slots bring together."""
    args = ["--embeddings", "--pooling", "mean", "--threads", str(threads), "--threads-batch", str(threads)]
    args += ["--parallel", str(slots), "--ctx-size", str(slots * MAX_TOKENS * 2), "--batch-size", "512", "--ubatch-size", "512"]
    return [*args, "--lora", str(lora)] if lora is not None else args


async def ask_server(client: HTTPClient, text: str) -> int:
    """Embed one text; the answer comes as base64, which costs the server less than decimal numbers."""
    answer = await client.post("/v1/embeddings", {"input": text, "encoding_format": "base64"})
    if not answer["data"][0]["embedding"]:
        raise BenchError("llama-server gave no embedding")
    return int(answer["usage"]["prompt_tokens"])


class SentenceTransformersPeer:
    """sentence-transformers in its own process, kept warm between runs."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def encode(self, texts: Sequence[str], *, dtype: str, batch_size: int) -> float:
        """Return tickets per second for all texts in one call. Raises BenchError."""
        return len(texts) / float(self._ask(texts, dtype, batch_size=batch_size)["seconds"])

    def embed_first(self, texts: Sequence[str]) -> list[float]:
        """Return the first text's embedding, to see that both sides compute the same model."""
        return [float(value) for value in self._ask(texts, "float32", batch_size=8)["first"]]

    def _ask(self, texts: Sequence[str], dtype: str, *, batch_size: int) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise BenchError("sentence-transformers has no pipe")
        try:
            self._process.stdin.write(json.dumps({"texts": list(texts), "dtype": dtype, "batch_size": batch_size}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(f"sentence-transformers ended ({self._log})\n{read_tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def start_sentence_transformers(*, threads: int) -> Iterator[SentenceTransformersPeer]:
    """Run sentence-transformers on the embedded default's own weights. It sees the project's torch; nothing else of ours."""
    folder = ensure_python_peer("sentence-transformers")
    log = LOG_DIR / "sentence-transformers.log"
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "benches.sentence_transformers_worker",
        str(find_package_model()),
        str(threads),
        str(MAX_TOKENS),
    ]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    with log.open("w") as errors:
        process = subprocess.Popen(  # noqa: S603 - the command is our own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"},
        )
        try:
            yield SentenceTransformersPeer(process, log)
        finally:
            process.terminate()
            process.wait()


class DecodeLimit:
    """`llama_decode` alone on given token lists: no queue, no tokenising, no head. What no engine on these kernels can exceed."""

    def __init__(self, path: Path, *, threads: int, lora: Path | None) -> None:
        self._model = LlamaModel(path)
        pooling = read_model_head(path).pooling_type or POOLING_MEAN
        self._context = LlamaContext(
            self._model,
            ContextSettings(
                n_ctx=max(LIMIT_BUDGETS),
                n_batch=max(LIMIT_BUDGETS),
                n_seq_max=_MAX_SEQUENCES,
                n_threads=threads,
                pooling_type=pooling,
            ),
        )
        self._lora = LoraAdapter(self._model, lora) if lora is not None else None
        self._context.set_lora(self._lora)

    def tokenize(self, text: str) -> list[int]:
        """Return a text's tokens with the model's own start and end tokens."""
        return self._model.tokenize(text, add_special=True)

    def measure(self, token_lists: Sequence[Sequence[int]], *, budget: int) -> float:
        """Return sequences per second in batches of at most `budget` tokens, in the order given (sort by length for the best rate)."""
        batches = cut_batches([len(tokens) for tokens in token_lists], budget=budget)
        arrays = [[np.array(token_lists[index], np.int32) for index in batch] for batch in batches]
        started = time.perf_counter()
        for batch in arrays:
            self._context.encode(batch)
        return len(token_lists) / (time.perf_counter() - started)

    def close(self) -> None:
        """Free everything."""
        self._context.close()
        if self._lora is not None:
            self._lora.close()
        self._model.close()


def cut_batches(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """Return indices in consecutive batches of at most `budget` tokens each; a longer sequence stands alone."""
    batches: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if not batches or length > room or len(batches[-1]) == _MAX_SEQUENCES:
            batches.append([])
            room = budget
        batches[-1].append(index)
        room -= length
    return batches
