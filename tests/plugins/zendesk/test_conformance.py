import pytest

from tests.plugins.helpdesk.conformance import HelpdeskConformance, desk
from tests.plugins.zendesk.zendesk_double import ZendeskDouble

__all__ = ["desk"]


@pytest.fixture
def double():
    return ZendeskDouble()


class TestZendesk(HelpdeskConformance):
    pass
