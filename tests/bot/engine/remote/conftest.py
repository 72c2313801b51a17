"""A local engine, bundles proven by it, and a llama-server that was started with their adapters, for each kind of model."""

from contextlib import AsyncExitStack, ExitStack

import numpy as np
import pytest

from bot.bundle import Calibration
from bot.engine.factory import build_engine
from bot.engine.head import EncoderHead
from db.types import ModelKind, TaskKind
from tests.support.engine_cases import CHOICES
from tests.support.model_servers import ENGINE, build_remote, run_llama_server
from tests.support.tiny_decoder import make_bundle, make_manifest, make_tiny_decoder


async def make_bundles(engine, path, folder):
    """Seal two adapters for classification and, on a decoder, one for summaries."""
    tasks = [TaskKind.CLASSIFICATION, TaskKind.CLASSIFICATION]
    tasks += [TaskKind.SUMMARY] if engine.kind == ModelKind.DECODER else []
    sealed = []
    for seed, task in enumerate(tasks, start=1):
        work = folder / f"work-{seed}"
        work.mkdir(parents=True)
        labels = CHOICES.names if task == TaskKind.CLASSIFICATION else ()
        if engine.kind == ModelKind.ENCODER:
            EncoderHead.zero_shot(np.random.default_rng(seed).normal(0, 0.5, (len(labels), 64)).astype(np.float32), labels).save(
                work
            )
        manifest = make_manifest(engine=engine, task=task, labels=labels)
        calibration = Calibration(prior_weight=1.0 if seed == 1 else 0.5, temperature=1.0 if seed == 1 else 1.3)
        sealed.append(await make_bundle(work, engine=engine, manifest=manifest, base=path, seed=seed, calibration=calibration))
    return sealed


@pytest.fixture(params=["encoder", "decoder"])
def kind(request):
    """Which kind of model; parametrise directly to choose."""
    return request.param


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("remote-bundles")


@pytest.fixture
def path(kind, encoder_path, decoder_path):
    return {"encoder": encoder_path, "decoder": decoder_path}[kind]


@pytest.fixture
async def local(path):
    """The local engine on the same file."""
    engine = build_engine(path, settings=ENGINE)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def sealed(local, path, tmp_path):
    return await make_bundles(local, path, tmp_path)


@pytest.fixture
def server(kind, path, sealed):
    """URL of a llama-server with all the adapters."""
    flags = ("--embeddings",) if kind == "encoder" else ()
    with run_llama_server(path, *flags, loras=[bundle.adapter_path for bundle in sealed]) as url:
        yield url


@pytest.fixture(scope="session")
def slow_path(tmp_path_factory):
    """A decoder that takes some milliseconds per token, so that there is time to leave."""
    return make_tiny_decoder(
        tmp_path_factory.mktemp("slow") / "slow.gguf", n_embd=512, n_layer=6, n_head=8, n_head_kv=8, n_ff=1024
    )


@pytest.fixture
async def connect():
    """Return a function that starts an engine for a server; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(path, url, **options):
            engine = build_remote(path, url, **options)
            stack.push_async_callback(engine.stop)
            await engine.start()
            return engine

        yield start


@pytest.fixture
async def remote(connect, path, server):
    return await connect(path, server)


@pytest.fixture
def servers():
    """An exit stack for servers that a test starts itself."""
    with ExitStack() as stack:
        yield stack
