"""Which token speaks in which workspace. One workspace has its token in the settings; several bring a source of their own.

Knows nothing of how tokens are obtained.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Workspace:
    """A workspace the app is installed in. The ids of the bot are empty until Slack has told them."""

    bot_token: str
    team: str = ""
    bot_user_id: str = ""
    bot_id: str = ""


class TokenSource(Protocol):
    """Finds the token of a workspace, from memory where it can: it is asked before every call."""

    async def get_workspace(self, team: str) -> Workspace | None:
        """Return the workspace, or None where the app is not installed."""
        ...

    def is_own(self, user_or_bot_id: str) -> bool:
        """Whether the id is the bot's own, in any workspace."""
        ...

    def learn(self, workspace: Workspace) -> None:
        """Keep what Slack said about a token."""
        ...


class SingleToken:
    """One token for whatever workspace is asked for: a shared channel may bring the ids of others."""

    def __init__(self, bot_token: str) -> None:
        self._workspace = Workspace(bot_token)

    async def get_workspace(self, team: str) -> Workspace | None:  # noqa: ARG002  one token speaks everywhere
        """See `TokenSource.get_workspace`."""
        return self._workspace

    def is_own(self, user_or_bot_id: str) -> bool:
        """See `TokenSource.is_own`."""
        return bool(user_or_bot_id) and user_or_bot_id in {self._workspace.bot_user_id, self._workspace.bot_id}

    def learn(self, workspace: Workspace) -> None:
        """See `TokenSource.learn`."""
        self._workspace = workspace
