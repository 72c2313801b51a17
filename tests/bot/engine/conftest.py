"""Tiny models and started engines of both kinds, all on real llama.cpp."""

import itertools

import numpy as np
import pytest

from bot.bundle import Calibration
from bot.engine.factory import build_engine
from bot.engine.head import EncoderHead
from bot.engine.settings import EngineSettings
from bot.engine.turns import TurnHead
from db.types import ModelKind, TaskKind
from tests.support.engine_cases import CHOICES
from tests.support.tiny_decoder import make_bundle, make_manifest, make_tiny_decoder
from tests.support.tiny_encoder import make_tiny_encoder


@pytest.fixture(scope="session")
def decoder_path(tmp_path_factory):
    return make_tiny_decoder(tmp_path_factory.mktemp("decoder") / "tiny.gguf")


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny.gguf")


@pytest.fixture
def model_path(request, encoder_path, decoder_path):
    """The model of the engine under test."""
    return decoder_path if request.param == "decoder" else encoder_path


@pytest.fixture
async def build():
    """Return a function that starts an engine on a file; all are stopped at the end."""
    engines = []

    async def start(path, **settings):
        engine = build_engine(
            path, settings=EngineSettings(**{"n_threads": 1, "n_ctx": 2048, "n_batch": 128, "n_seq_max": 32} | settings)
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def decoder(build, decoder_path):
    return await build(decoder_path)


@pytest.fixture
async def encoder(build, encoder_path):
    return await build(encoder_path)


@pytest.fixture
async def engine(build, model_path, request):
    """An engine of either kind; parametrise `model_path` indirectly. "encoder-beside" keeps LoRA weights beside the base's."""
    is_beside = request.node.callspec.params["model_path"] == "encoder-beside"
    return await build(model_path, **({"merge_limit_mib": 0} if is_beside else {}))


@pytest.fixture
def bundles(engine, model_path, tmp_path):
    """Return a function that writes a proven bundle for the engine; every seed is another adapter."""
    numbers = itertools.count()

    async def make(seed, *, task=TaskKind.CLASSIFICATION, **options):
        folder = tmp_path / "bundles" / f"work-{next(numbers)}"
        folder.mkdir(parents=True)
        labels = CHOICES.names if task == TaskKind.CLASSIFICATION else ()
        if engine.kind == ModelKind.ENCODER and task == TaskKind.SUMMARY:
            TurnHead(TurnHead.default().weight + seed).save(folder)
        elif engine.kind == ModelKind.ENCODER:
            weights = np.random.default_rng(100 + (seed or 0)).normal(0, 0.5, (len(labels), 64)).astype(np.float32)
            EncoderHead.zero_shot(weights, labels).save(folder)
        manifest = options.pop("manifest", None) or make_manifest(engine=engine, task=task, labels=labels)
        options = {"calibration": Calibration(prior_weight=1.0)} | options
        return await make_bundle(folder, engine=engine, manifest=manifest, base=model_path, seed=seed, **options)

    return make
