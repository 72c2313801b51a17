"""The one list of what the plugin listens to: kind and name of each event, command, shortcut, click and form, and what handles it.

A name that is not here is acknowledged, counted and left alone. Knows nothing of how they arrive.
"""

from collections.abc import Awaitable, Callable, Mapping

from bot.plugin_api import Event
from plugins.slack import decisions, digest, elsewhere, forms, home, manager_forms, managers, oauth, summaries, triage
from plugins.slack.desk import Desk
from plugins.slack.modals import read_input
from plugins.slack.payloads import Body
from plugins.slack.settings import SlackSettings

Handler = Callable[[Desk, Event], Awaitable[None]]
Opener = Callable[[Desk, Body], Awaitable[None]]

HANDLERS: Mapping[str, Handler] = {
    "event:app_mention": triage.on_mention,
    "event:message": triage.on_message,
    "shortcut:triage": triage.on_shortcut,
    "shortcut:summarise_thread": summaries.on_shortcut,
    "command:/triage": triage.on_command,
    "command:/summarize": summaries.on_command,
    "action:triage_accept": decisions.on_accept,
    "action:triage_choose": decisions.on_choose,
    "action:triage_unfold": triage.on_unfold,
    "action:triage_undo": decisions.on_undo,
    "action:triage_anyway": decisions.on_anyway,
    "action:summary_accept": decisions.on_accept,
    "action:summary_undo": decisions.on_undo,
    "view:triage_decide": decisions.on_form,
    "view:summary_edit": decisions.on_summary_form,
    "later:close_undo": decisions.on_close_undo,
    "later:elsewhere": elsewhere.on_elsewhere,
    "event:app_home_opened": home.on_opened,
    "event:app_uninstalled": oauth.on_uninstalled,
    "event:tokens_revoked": oauth.on_revoked,
    "command:/adapters": managers.on_adapters,
    "command:/pause": managers.on_pause,
    "command:/resume": managers.on_resume,
    "action:run_promote": managers.on_promote,
    "action:run_reject": managers.on_reject,
    "action:home_resolve": home.on_resolve,
    "action:home_withdraw": home.on_withdraw,
    "action:home_dismiss": home.on_dismiss,
    "view:retrain_start": managers.on_start,
    "view:rollback_do": managers.on_rollback,
    "later:adapters": managers.on_adapters,
    "later:pause": managers.on_pause,
    "later:resume": managers.on_resume,
    "later:status": managers.on_status,
    "later:help": managers.on_help,
    "later:digest": digest.on_digest,
}
"""Handled from the durable queue, each exactly once. What begins with `later:` the plugin puts there itself."""

OPENERS: Mapping[str, Opener] = {
    "action:triage_pick": forms.open_pick,
    "action:triage_override": forms.open_override,
    "action:triage_edit": forms.open_edit,
    "action:triage_handoff": forms.open_handoff,
    "action:summary_edit": forms.open_summary,
    "action:retrain_task": manager_forms.change_task,
    "command:/retrain": manager_forms.open_retrain,
    "command:/rollback": manager_forms.open_rollback,
}
"""Done right after the acknowledgement and not stored: Slack's trigger lives three seconds."""

ROUTES: Mapping[str, Callable[[Body], tuple[str, Body]]] = {"command:/understudy": manager_forms.route_understudy}
"""What goes by another of these names, with another payload; pure functions of the payload."""

FILTERS: Mapping[str, Callable[[SlackSettings, Body], bool]] = {"event:message": triage.is_wanted}
"""What need not be stored; pure functions of the payload."""


def _check_summary(body: Body) -> Mapping[str, str]:
    return {} if read_input(body, "text") else {"text": "Write a sentence, or cancel to leave the summary as it is."}


CHECKS: Mapping[str, Callable[[Body], Mapping[str, str]]] = {"view:summary_edit": _check_summary}
"""What is wrong with a form, by field; shown in the form, which then stays open."""
