"""Local models: adding, listing, finding, and what a file says of itself."""

import json

import pytest

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError
from bot.models.default import DEFAULT_DIGEST, DEFAULT_NAME, ensure_default_model
from bot.models.gguf_info import inspect_gguf
from bot.models.registry import add_model, find_model, list_models
from db.types import ModelKind
from tests.bot.models.conftest import write_tiny_gguf


def test_empty_home_has_no_models(tmp_path):
    assert list_models(tmp_path) == ()
    assert find_model("tiny", tmp_path) is None


def test_added_model_is_listed_and_found_in_any_case(tiny_gguf, tmp_path):
    entry = add_model(tiny_gguf, tmp_path / "home", name="Mine", licence="own")
    assert list_models(tmp_path / "home") == (entry,)
    assert find_model("mine", tmp_path / "home") == entry.path
    assert entry.digest == hash_file(entry.path) == hash_file(tiny_gguf)
    assert (entry.kind, entry.architecture, entry.licence, entry.n_bytes) == (
        ModelKind.ENCODER,
        "bert",
        "own",
        tiny_gguf.stat().st_size,
    )


def test_name_and_licence_default_to_the_files_own(tiny_gguf, tmp_path):
    entry = add_model(tiny_gguf, tmp_path / "home")
    assert (entry.name, entry.licence) == ("tiny", "mit")


def test_model_stays_when_the_original_goes(tiny_gguf, tmp_path):
    entry = add_model(tiny_gguf, tmp_path / "home")
    tiny_gguf.unlink()
    assert hash_file(entry.path) == entry.digest


def test_home_folder_can_be_moved(tiny_gguf, tmp_path):
    add_model(tiny_gguf, tmp_path / "home")
    (tmp_path / "home").rename(tmp_path / "moved")
    assert find_model("tiny", tmp_path / "moved").is_file()


def test_same_file_again_changes_nothing(tiny_gguf, tmp_path):
    first = add_model(tiny_gguf, tmp_path)
    assert add_model(tiny_gguf, tmp_path) == first
    assert add_model(first.path, tmp_path) == first


def test_other_file_under_a_name_in_use_is_refused(tiny_gguf, tmp_path):
    add_model(tiny_gguf, tmp_path / "home", name="mine")
    other = write_tiny_gguf(tmp_path / "other.gguf", name="other")
    with pytest.raises(ModelFileError, match="another model is named 'mine' already"):
        add_model(other, tmp_path / "home", name="MINE")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "x" * 81, "two words"])
def test_name_that_cannot_be_a_file_is_refused(name, tiny_gguf, tmp_path):
    with pytest.raises(ModelFileError, match="cannot be a model's name"):
        add_model(tiny_gguf, tmp_path, name=name)


def test_default_models_name_is_taken(tiny_gguf, tmp_path):
    with pytest.raises(ModelFileError, match="embedded default's name"):
        add_model(tiny_gguf, tmp_path, name="all-minilm-l6-v2")


def test_embedded_default_is_listed_first_once_written(tiny_gguf, tmp_path):
    add_model(tiny_gguf, tmp_path, name="aaa")
    path = ensure_default_model(tmp_path)
    assert [entry.name for entry in list_models(tmp_path)] == [DEFAULT_NAME, "aaa"]
    assert list_models(tmp_path)[0].digest == DEFAULT_DIGEST
    assert find_model(DEFAULT_NAME, tmp_path) == path


def test_file_that_went_away_is_an_error_not_an_absence(tiny_gguf, tmp_path):
    add_model(tiny_gguf, tmp_path / "home").path.unlink()
    with pytest.raises(ModelFileError, match="is gone: pull or add the model again"):
        find_model("tiny", tmp_path / "home")


@pytest.mark.parametrize("content", ["{", "[1]", '[{"name": "x"}]', json.dumps([{"name": "x", "path": "y", "kind": "z"}])])
def test_damaged_registry_says_what_to_do(content, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "registry.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"is damaged .*remove it and add the models again"):
        list_models(tmp_path)


def test_head_tells_kind_and_size(tmp_path, tiny_gguf):
    info = inspect_gguf(tiny_gguf)
    assert (info.kind, info.n_embd, info.n_ctx_train, info.n_params) == (ModelKind.ENCODER, 64, 128, 4096)
    assert (info.quantisation, info.name, info.licence) == ("F32", "tiny", "mit")
    assert inspect_gguf(write_tiny_gguf(tmp_path / "d.gguf", architecture="llama")).kind is ModelKind.DECODER
    pooled = write_tiny_gguf(tmp_path / "e.gguf", architecture="qwen3", metadata=[("qwen3.pooling_type", 3)])
    assert inspect_gguf(pooled).kind is ModelKind.ENCODER


def test_default_model_tells_its_own_story(tmp_path):
    info = inspect_gguf(ensure_default_model(tmp_path))
    assert (info.architecture, info.quantisation, info.name, info.licence) == ("bert", "Q8_0", DEFAULT_NAME, "apache-2.0")
    assert info.n_params == 22_565_376


def test_part_of_a_split_model_is_refused(tmp_path):
    part = write_tiny_gguf(tmp_path / "part.gguf", metadata=[("split.count", 2)])
    with pytest.raises(ModelFileError, match="one of 2 parts of a model; join them"):
        inspect_gguf(part)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"GGUF", b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff"])
def test_file_that_is_no_gguf_is_refused_before_anything_is_written(content, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        add_model(path, tmp_path / "home")
    assert not (tmp_path / "home").exists()
