"""The masker's settings: refused values, described fields."""

import pytest
from pydantic import ValidationError

from bot.masking import MaskingSettings


def test_unknown_entity_type_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError, match="unknown entity types in actions: NAME; known: SECRET"):
        MaskingSettings(actions={"NAME": "keep"})


def test_literals_cannot_be_kept():
    with pytest.raises(ValidationError, match="LITERAL cannot be kept"):
        MaskingSettings(actions={"LITERAL": "keep"})


def test_unknown_setting_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        MaskingSettings(max_char=3)


def test_every_field_is_described():
    assert all(field.description for field in MaskingSettings.model_fields.values())
