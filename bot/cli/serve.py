"""Commands that run or check the bot: serve, check, migrate."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from bot.cli.common import read_settings
from bot.cli.output import console, print_json
from bot.errors import UserError

if TYPE_CHECKING:
    from bot.app import App


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(check)
    app.command()(migrate)


def bind(host: str, port: int) -> socket.socket:
    """Bind the listening socket ourselves, so that a port in use is one sentence and not a traceback. Raises UserError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}): stop what uses it, or set UNDERSTUDY_PORT to another port"
        ) from None
    return listener


def serve(
    host: str | None = typer.Option(None, help="Address to bind to."),
    port: int | None = typer.Option(None, min=0, max=65535, help="Port to bind to; 0 picks a free one."),
) -> None:
    """Run the bot: console, plugins, engine, and the training daemon."""
    from bot.app import App

    settings = read_settings(is_server=True)
    listener = bind(host or settings.host, settings.port if port is None else port)
    try:
        asyncio.run(_serve(App(settings), listener))
    except asyncio.CancelledError:  # told to stop before it served
        raise KeyboardInterrupt from None
    finally:
        listener.close()


async def _serve(app: "App", listener: socket.socket) -> None:
    """Start the bot, serve until a signal comes, stop the bot. An error at start comes out as it is."""
    import uvicorn

    from bot.app import create_web

    class Server(uvicorn.Server):
        """Leaves the signals to us: uvicorn raises them again when it ends, which would kill the process before the bot is stopped."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Server(uvicorn.Config(create_web(app), log_level="warning", access_log=False, timeout_graceful_shutdown=10))
    starting = asyncio.ensure_future(app.start())

    def end(number: int) -> None:
        starting.cancel()
        server.handle_exit(number, None)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await starting
        if app.settings.sample_tickets:
            app.start_samples()
        listener.listen()  # whoever reads the address may connect at once
        host, port = listener.getsockname()[:2]
        console.print(f"Understudy serves at http://{host}:{port}  (stop with Ctrl+C)", highlight=False, soft_wrap=True)
        await server.serve(sockets=[listener])
    finally:
        await app.stop()


def check(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check settings, label set, database, vault key, model files, licences and plugins without serving."""
    from bot.app import build_vault, check_servers, load_labels, open_database
    from bot.models.gguf_info import inspect_gguf
    from bot.plugin_host import find_specs, read_plugin_settings
    from bot.serving import resolve_models

    settings = read_settings()
    label_set = load_labels(settings)
    build_vault(settings)
    specs = find_specs(settings.plugins)
    for spec in specs:
        read_plugin_settings(spec)
    db_engine = open_database(settings)
    try:
        models = resolve_models(settings, db_engine)
    finally:
        db_engine.dispose()
    asyncio.run(check_servers(models, settings))
    found = {
        "label_set": {"name": label_set.name, "version": label_set.version, "n_labels": len(label_set.labels)},
        "models": {
            task.value: {
                "path": str(model.path),
                "kind": inspect_gguf(model.path).kind.value,
                "server": model.server.url if model.server else None,
            }
            for task, model in models.items()
        },
        "plugins": [spec.name for spec in specs],
        "database": db_engine.url.render_as_string(hide_password=True),
    }
    if as_json:
        print_json(found)
        return
    console.print("Everything is in order.", style="green")
    console.print_json(data=found)


def migrate() -> None:
    """Bring the database to this version's migrations. Stop the bot and training first; make a backup."""
    from db.migrate import upgrade
    from db.session import build_db_engine

    settings = read_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    db_engine = build_db_engine(settings.resolved_database_url)
    try:
        upgrade(db_engine)
    finally:
        db_engine.dispose()
    console.print("The database is up to date.")
