"""What plugins are given: `bot.plugin_api.Bot` over the built parts. Passes calls on and decides nothing."""

from collections.abc import AsyncIterator, Sequence

from bot.core import Core
from bot.durable import DurableQueue, DurableStore
from bot.inbox import InboxReader
from bot.manager import ManagerService
from bot.privacy.service import PrivacyService
from bot.sealing import Sealer
from bot.service import Service
from bot.types import Classification, Feedback, FeedbackReceipt, SourceRef, Summary, Turn


class BotFacade:
    """Implements `bot.plugin_api.Bot`."""

    def __init__(
        self, core: Core, service: Service, inbox: InboxReader, manager: ManagerService, *, privacy: PrivacyService
    ) -> None:
        self.service = service
        self._core = core
        self._inbox = inbox
        self._manager = manager
        self._privacy = privacy
        self._sealer: Sealer | None = None

    @property
    def inbox(self) -> InboxReader:
        """Reading side."""
        return self._inbox

    @property
    def manager(self) -> ManagerService:
        """Training and adapters."""
        return self._manager

    @property
    def privacy(self) -> PrivacyService:
        """People's data."""
        return self._privacy

    async def classify(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = (), labels: Sequence[str] = ()
    ) -> Classification:
        """See `bot.plugin_api.Bot.classify`."""
        return await self.service.classify(text, source=source, subject=subject, turns=turns, labels=labels)

    async def summarize(self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()) -> Summary:
        """See `bot.plugin_api.Bot.summarize`."""
        return await self.service.summarize(text, source=source, subject=subject, turns=turns)

    def stream_summary(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()
    ) -> AsyncIterator[Summary]:
        """See `bot.plugin_api.Bot.stream_summary`."""
        return self.service.stream_summary(text, source=source, subject=subject, turns=turns)

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """See `bot.plugin_api.Bot.record_feedback`."""
        return await self.service.record_feedback(feedback)

    async def withdraw_feedback(self, feedback_id: int, *, actor: str) -> None:
        """See `bot.plugin_api.Bot.withdraw_feedback`."""
        await self.service.withdraw_feedback(feedback_id, actor=actor)

    def open_queue(self, name: str) -> DurableQueue:
        """See `bot.plugin_api.Bot.open_queue`. Raises SealError where the key is no key."""
        return DurableQueue(self._core, self._get_sealer(), name)

    def open_store(self, name: str) -> DurableStore:
        """See `bot.plugin_api.Bot.open_store`. Raises SealError where the key is no key."""
        return DurableStore(self._core, self._get_sealer(), name)

    def _get_sealer(self) -> Sealer:
        # Made when the first plugin needs it, so that a bot without such plugins has no key file.
        if self._sealer is None:
            settings = self._core.settings
            self._sealer = Sealer.open(settings.home, settings.vault_keys)
        return self._sealer
