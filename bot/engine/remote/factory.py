"""Builds the engine of a model that runs on a server, by the same rules as the local one: the GGUF file says what it is.

Reads the file's head only; nothing is connected before `start()`.
"""

from pathlib import Path

from bot.engine.answers import Answers
from bot.engine.engine import LlamaEngine
from bot.engine.factory import choose_kind
from bot.engine.gguf_file import GGUFHead, read_model_head
from bot.engine.metrics import EngineMetrics
from bot.engine.remote.backend import Backend
from bot.engine.remote.decoder import RemoteDecoderAnswers
from bot.engine.remote.encoder import RemoteEncoderAnswers
from bot.engine.remote.http import HttpClient
from bot.engine.remote.link import ElsewhereRuntime, Link
from bot.engine.remote.llama_server import LlamaServer
from bot.engine.remote.openai import OpenAIServer
from bot.engine.remote.reading import Reader
from bot.engine.remote.settings import RemoteSettings, ServerChoice
from bot.engine.settings import EngineSettings
from db.types import ModelKind


class RemoteEngine(LlamaEngine):
    """An engine whose model runs on a server. Queue, deadlines, proof, swap and heads are the local engine's own."""

    def __init__(
        self,
        path: Path,
        *,
        client: HttpClient,
        head: GGUFHead,
        settings: EngineSettings,
        answers: Answers,
        worker: Link,
        metrics: EngineMetrics,
    ) -> None:
        super().__init__(path, head=head, settings=settings, answers=answers, worker=worker, metrics=metrics)
        self._client = client

    def find_trouble(self) -> str | None:
        """Say in one sentence why the engine cannot answer now: also where the last request did not reach the server."""
        return super().find_trouble() or self._client.trouble


def build_remote_engine(
    path: Path,
    choice: ServerChoice,
    *,
    settings: EngineSettings,
    remote: RemoteSettings,
    metrics: EngineMetrics | None = None,
) -> RemoteEngine:
    """Return an engine, not started, for the GGUF file that the server serves too. Raises ModelFileError where it cannot be a model."""
    path = path.resolve()
    head = read_model_head(path)
    kind = choose_kind(head)
    client = HttpClient(choice.url, remote)
    backend: Backend
    if choice.backend == "llama-server":
        backend = LlamaServer(client, path=path, head=head, kind=kind, settings=remote)
    else:
        backend = OpenAIServer(client, path=path, head=head, settings=remote, model=choice.model)
    reader = Reader(backend, head=head, settings=settings)
    runtime = ElsewhereRuntime(n_vocab=reader.n_vocab, label_top_k=settings.label_top_k)
    link = Link(name=f"remote:{path.stem}", backend=backend, runtime=runtime)
    answers: Answers
    if kind == ModelKind.ENCODER:
        answers = RemoteEncoderAnswers(link, backend=backend, reader=reader)
    else:
        answers = RemoteDecoderAnswers(link, backend=backend, reader=reader, seed=settings.seed)
    return RemoteEngine(
        path,
        client=client,
        head=head,
        settings=settings,
        answers=answers,
        worker=link,
        metrics=metrics or EngineMetrics.alone(),
    )
