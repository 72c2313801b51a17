"""Builds everything and wires it: settings, database, masker, models, engines, service, plugins, HTTP.

The one place that knows all parts. Nothing here decides anything about tickets.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from sqlalchemy import Engine as DbEngine

from bot.adapter_watch import AdapterWatch
from bot.api.errors import add_error_handling
from bot.api.routes import adapters as adapter_routes
from bot.api.routes import health, metrics
from bot.core import Core
from bot.data import demo_label_set, load_sample_tickets
from bot.engine.factory import build_engine
from bot.engine.metrics import EngineMetricFamilies
from bot.engine.protocol import Engine
from bot.engine.remote.factory import build_remote_engine
from bot.facade import BotFacade
from bot.inbox import InboxReader
from bot.manager import ManagerService, build_child_environment
from bot.masking import Masker, MaskerPool, Vault
from bot.masking.corrections import CorrectedMasker
from bot.metrics import BotMetrics, HttpCounter, build_registry
from bot.plugin_api import BusyError
from bot.plugin_host import PluginHost, find_specs
from bot.privacy.jobs import PrivacyJobs
from bot.privacy.service import PrivacyService
from bot.service import Service
from bot.serving import ServedModel, resolve_models
from bot.settings import Settings
from bot.similar import SimilarIndex
from bot.tasks.classification import build_choices
from bot.tasks.labels import load_label_set, render_label_set
from bot.training_child import TrainingChild
from bot.types import LabelSet, SourceRef
from db.migrate import check_schema, get_current, upgrade
from db.queries.labelsets import store_label_set
from db.session import build_db_engine, transaction
from db.types import TaskKind

logger = logging.getLogger(__name__)


class App:
    """The built bot. `start` loads models and brings the engines to what the database says is active."""

    def __init__(self, settings: Settings, *, with_plugins: bool = True, with_training: bool = True) -> None:
        self.settings = settings
        label_set = load_labels(settings)
        specs = find_specs(settings.plugins) if with_plugins else []
        self.db_engine = open_database(settings)
        with transaction(self.db_engine) as session:
            store_label_set(
                session, version=label_set.version, name=label_set.name, content_yaml=render_label_set(label_set), actor="bot"
            )
        self.models = resolve_models(settings, self.db_engine)
        self.registry = build_registry()
        engines = build_engines(self.models, settings, EngineMetricFamilies(self.registry))
        # A command that answers one question has no use for processes; the bot that serves has.
        is_pooled = with_plugins and settings.masking.workers > 0
        self._pool = MaskerPool(settings.masking, build_busy_error=BusyError) if is_pooled else None
        masker = CorrectedMasker(self._pool or Masker(settings.masking))
        self.core = Core(
            settings=settings,
            db_engine=self.db_engine,
            masker=masker,
            vault=build_vault(settings),
            label_set=label_set,
            choices=build_choices(label_set),
            engines=engines,
            similar=SimilarIndex(settings.similar_index_size),
            metrics=BotMetrics(self.registry),
        )
        self.watch = AdapterWatch(self.core)
        service = Service(self.core)
        self.privacy = PrivacyService(
            self.db_engine, settings, self.core.vault, get_masker=lambda: masker, similar=self.core.similar
        )
        self._privacy_jobs = PrivacyJobs(self.privacy)
        inbox, manager = InboxReader(self.core, service), ManagerService(self.core, self.watch)
        self.bot = BotFacade(self.core, service, inbox, manager, privacy=self.privacy)
        self.host = PluginHost(specs, self.bot)
        is_child = with_training and settings.training.daemon == "child"
        self._training = TrainingChild(build_child_environment(self.core)) if is_child else None
        self._chores: set[asyncio.Task[None]] = set()
        self._running = AsyncExitStack()

    @property
    def unique_engines(self) -> list[Engine]:
        """The engines, each once, though one may serve both tasks."""
        return list(dict.fromkeys(self.core.engines.values()))

    async def start(self) -> None:
        """Load, swap to what is active, start plugins and the training daemon. What was started is stopped again if a later part fails."""
        async with AsyncExitStack() as stack:
            stack.callback(self.db_engine.dispose)
            if self._pool is not None:
                stack.push_async_callback(self._pool.stop)
                await self._pool.start()
            await self._privacy_jobs.prepare()
            for engine in self.unique_engines:
                stack.push_async_callback(engine.stop)
                await engine.start()
            stack.push_async_callback(self.watch.stop)
            await self.watch.start()
            engine = self.core.engines[TaskKind.CLASSIFICATION]
            await engine.warm(self.core.choices, adapter=engine.get_active(TaskKind.CLASSIFICATION))
            stack.push_async_callback(self.host.stop)
            await self.host.start()
            if self._training is not None:
                stack.push_async_callback(self._training.stop)
                await self._training.start()
            stack.push_async_callback(self._stop_chores)
            self._start_chore(self._privacy_jobs.run(), "privacy")
            self._running = stack.pop_all()

    async def stop(self) -> None:
        """Stop in the reverse order, all of it even where a part fails to."""
        running, self._running = self._running, AsyncExitStack()
        await running.aclose()

    def _start_chore(self, work: Coroutine[Any, Any, None], name: str) -> None:
        chore = asyncio.create_task(work, name=name)
        self._chores.add(chore)
        chore.add_done_callback(self._end_chore)

    def _end_chore(self, chore: "asyncio.Task[None]") -> None:
        self._chores.discard(chore)
        if not chore.cancelled() and (error := chore.exception()) is not None:
            # The type alone: a foreign exception's text may quote what it worked on.
            logger.error("%s ended with %s", chore.get_name(), type(error).__name__)

    async def _stop_chores(self) -> None:
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)

    def get_engines(self) -> Mapping[TaskKind, Engine]:
        """Engine per task, for health."""
        return self.core.engines

    def get_problems(self) -> Mapping[str, str]:
        """Task to what is wrong with its adapter, and 'masking' to what is wrong with its processes, for health."""
        found = {task.value: problem for task, problem in self.watch.problems.items()}
        trouble = None if self._pool is None else self._pool.find_trouble()
        return found if trouble is None else found | {"masking": trouble}

    def get_plugin_states(self) -> Mapping[str, tuple[str, str]]:
        """Plugin to (status, error), for health."""
        return self.host.get_states()

    def start_samples(self) -> None:
        """Put the bundled sample tickets into an empty database, in the background."""
        self._start_chore(add_samples(self), "samples")


def load_labels(settings: Settings) -> LabelSet:
    """Read the label set in force."""
    return load_label_set(settings.labels) if settings.labels else demo_label_set()


def open_database(settings: Settings) -> DbEngine:
    """Connect; a new database gets its tables, one that is behind its migrations is refused."""
    settings.home.mkdir(parents=True, exist_ok=True)
    db_engine = build_db_engine(settings.resolved_database_url)
    if get_current(db_engine) is None:
        upgrade(db_engine)
    check_schema(db_engine)
    return db_engine


def build_vault(settings: Settings) -> Vault | None:
    """Build the vault, or None without a key."""
    if settings.vault_key is None:
        return None
    return Vault.from_keys(settings.vault_keys)


def build_engines(
    models: Mapping[TaskKind, ServedModel], settings: Settings, metrics: EngineMetricFamilies
) -> dict[TaskKind, Engine]:
    """Build one engine per distinct model file and server; its metrics carry the file's name, made distinct where two share it."""
    engines: dict[ServedModel, Engine] = {}
    names: list[str] = []
    for model in dict.fromkeys(models.values()):
        path, server = model.path, model.server
        name = path.stem if path.stem not in names else f"{path.stem}-{len(names)}"
        names.append(name)
        bound = metrics.bind(name)
        if server is None:
            engines[model] = build_engine(path, settings=settings.engine, metrics=bound)
        else:
            engines[model] = build_remote_engine(path, server, settings=settings.engine, remote=settings.remote, metrics=bound)
    return {task: engines[model] for task, model in models.items()}


async def check_servers(models: Mapping[TaskKind, ServedModel], settings: Settings) -> None:
    """Connect to every model server once. Raises EngineError where one is down, refuses the key, or serves another model."""
    for model in dict.fromkeys(models.values()):
        if model.server is not None:
            engine = build_remote_engine(model.path, model.server, settings=settings.engine, remote=settings.remote)
            await engine.start()
            await engine.stop()


async def add_samples(app: App) -> None:
    """Classify and summarise the bundled sample tickets, if the database has no ticket yet."""
    if await app.bot.inbox.list_tickets(limit=1):
        return
    for sample in load_sample_tickets():
        source = SourceRef(plugin="console", external_id=sample.id)
        await app.bot.classify(sample.text, source=source, subject=sample.subject, turns=sample.turns)
        await app.bot.summarize("", source=source)


def create_web(app: App) -> FastAPI:
    """Build the HTTP surface: health, metrics, adapters, and every plugin under /plugins/<name>. Who calls it starts and stops the app."""
    web = FastAPI(title="Understudy", docs_url=None, redoc_url=None)
    add_error_handling(web)
    web.add_middleware(HttpCounter, metrics=app.core.metrics)
    web.include_router(health.build_router(app))
    web.include_router(metrics.build_router(app.registry))
    web.include_router(adapter_routes.build_router(app.bot))
    for hosted in app.host.plugins:
        if hosted.plugin.router is not None:
            web.include_router(hosted.plugin.router, prefix=f"/plugins/{hosted.name}")
    if any(hosted.name == "console" for hosted in app.host.plugins):

        @web.get("/", include_in_schema=False)
        async def redirect_to_console() -> RedirectResponse:
            return RedirectResponse("/plugins/console/", status_code=307)

    return web
