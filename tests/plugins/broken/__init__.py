"""One tiny plugin per way of being wrong."""

import asyncio

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.plugin_api import Bot, PluginSpec


class NoSettings(BaseModel):
    pass


class NeedsSecret(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BROKENTEST_")
    api_key: SecretStr
    retries: int = 3


class Good:
    router = None

    def __init__(self, bot: Bot, settings: BaseModel) -> None:
        self.events: list[str] = []

    async def start(self) -> None:
        self.events.append("start")

    async def stop(self) -> None:
        self.events.append("stop")


class RaisesInStart(Good):
    async def start(self) -> None:
        raise RuntimeError("no route to the helpdesk")


class HangsInStart(Good):
    async def start(self) -> None:
        self.events.append("start")
        await asyncio.sleep(3600)


class RaisesInInit(Good):
    def __init__(self, bot: Bot, settings: BaseModel) -> None:
        raise ValueError("token s3cret-value is not valid")


class NeedsList(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BROKENTEST_")
    channels: list[str] = []


class HangsInStop(Good):
    async def stop(self) -> None:
        await asyncio.sleep(3600)


class SyncStart(Good):
    def start(self) -> None:
        """Forgot the async."""


good = PluginSpec(name="good", settings_type=NoSettings, create=Good)
wrong_name = PluginSpec(name="other", settings_type=NoSettings, create=Good)
old_version = PluginSpec(name="old_version", settings_type=NoSettings, create=Good, api_version=0)
needs_secret = PluginSpec(name="needs_secret", settings_type=NeedsSecret, create=Good)
raises = PluginSpec(name="raises", settings_type=NoSettings, create=RaisesInStart)
hangs = PluginSpec(name="hangs", settings_type=NoSettings, create=HangsInStop)
sync_start = PluginSpec(name="sync_start", settings_type=NoSettings, create=SyncStart)
hangs_in_start = PluginSpec(name="hangs_in_start", settings_type=NoSettings, create=HangsInStart)
raises_in_init = PluginSpec(name="raises_in_init", settings_type=NoSettings, create=RaisesInInit)
needs_list = PluginSpec(name="needs_list", settings_type=NeedsList, create=Good)
not_a_spec = "a string"
