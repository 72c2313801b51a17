"""What a run that failed says: a sentence that people can act on, and nothing of a ticket."""

import pytest
from safetensors import SafetensorError

from training.errors import TrainingError, describe_error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TrainingError("the label set is empty"), "the label set is empty"),
        (
            OSError(28, "No space left on device", "/home/x"),
            "a file could not be read or written: No space left on device (/home/x)",
        ),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "a file could not be read or written: No space left on device",
        ),
        (MemoryError(), "the machine ran out of memory: lower training.max_examples or give the training process more"),
        (ValueError("ticket of Ana Silva"), "an unexpected ValueError in an unknown place"),
    ],
)
def test_an_error_is_told_in_one_sentence_without_quoting_what_it_does_not_know(error, sentence):
    assert describe_error(error) == sentence
