"""The real bot on the embedded default model, in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.app import App
from bot.masking import Masker, MaskingSettings, Vault
from bot.models.default import ensure_default_model
from bot.settings import Settings


@pytest.fixture(scope="session")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder that holds the default model, written once per test run."""
    home = tmp_path_factory.mktemp("models-home")
    ensure_default_model(home)
    return home


def make_settings(home: Path, model_home: Path, **changes: object) -> Settings:
    (home / "models").mkdir(parents=True, exist_ok=True)
    for file in (model_home / "models").iterdir():
        (home / "models" / file.name).hardlink_to(file)
    return Settings(**{"home": home, "blind_share": 0.0, "sample_tickets": False, **changes})


async def run_app(settings: Settings) -> AsyncIterator[App]:
    app = App(settings, with_plugins=False, with_training=False)
    await app.start()
    yield app
    await app.stop()


@pytest.fixture(scope="session")
def masker() -> Masker:
    return Masker(MaskingSettings())


@pytest.fixture(autouse=True)
def _share_masker(monkeypatch: pytest.MonkeyPatch, masker: Masker) -> None:
    """Loading the pipeline takes seconds and it keeps no state between tickets: one serves all tests."""
    monkeypatch.setattr("bot.app.Masker", lambda _settings: masker)


@pytest.fixture
async def app(tmp_path: Path, model_home: Path) -> AsyncIterator[App]:
    async for built in run_app(make_settings(tmp_path / "home", model_home)):
        yield built


@pytest.fixture
async def blind_app(tmp_path: Path, model_home: Path) -> AsyncIterator[App]:
    async for built in run_app(make_settings(tmp_path / "home", model_home, blind_share=1.0)):
        yield built


@pytest.fixture
async def vault_app(tmp_path: Path, model_home: Path) -> AsyncIterator[App]:
    key = SecretStr(Vault.new_key())
    async for built in run_app(make_settings(tmp_path / "home", model_home, vault_key=key)):
        yield built
