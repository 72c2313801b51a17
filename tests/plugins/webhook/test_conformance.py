import pytest

from tests.plugins.helpdesk.conformance import HelpdeskConformance, desk
from tests.plugins.webhook.webhook_double import WebhookDouble

__all__ = ["desk"]


@pytest.fixture
def double():
    return WebhookDouble()


class TestWebhook(HelpdeskConformance):
    pass
