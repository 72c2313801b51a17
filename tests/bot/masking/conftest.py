"""One masker for all tests of this folder: building it takes two seconds."""

import pytest

from bot.masking import Masker, MaskingSettings


@pytest.fixture(scope="session")
def masker():
    return Masker(MaskingSettings(chunk_timeout_ms=60_000))  # a busy machine must not fail a test
