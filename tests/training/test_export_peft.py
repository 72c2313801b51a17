"""The adapter in PEFT's form: PEFT itself loads it beside `adapter.gguf` and computes the same, and bundles with and without it are read."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel

from bot.bundle import (
    ADAPTER_FILE,
    CALIBRATION_FILE,
    MANIFEST_FILE,
    PEFT_CONFIG_FILE,
    PEFT_WEIGHTS_FILE,
    PROBE_FILE,
    Bundle,
    BundleError,
    Calibration,
    Probe,
    compute_digest,
    seal,
    write_json,
)
from tests.training.decoder.conftest import LABELS, RUN, make_examples
from tests.training.decoder.shapes import make_shaped_decoder
from tests.training.decoder.test_served import make_manifest
from tests.training.test_export_shapes import TOKENS, build_peft, compute_peft_logits, compute_served_logits, export
from training.decoder.base import load_base
from training.decoder.settings import DecoderSettings
from training.decoder.train import train_decoder
from training.export import ExportError
from training.export_peft import export_peft
from training.qlora import get_lora_state

pytestmark = pytest.mark.train


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers for it
def test_peft_loads_what_was_written_and_computes_what_llama_cpp_serves(tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", "mistral")
    wrapped = build_peft(base)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    export(wrapped, base, bundle / ADAPTER_FILE)
    export_peft(get_lora_state(wrapped), bundle, lora_alpha=12.0)
    loaded = PeftModel.from_pretrained(load_base(base), str(bundle)).eval()
    with torch.inference_mode():
        logits = loaded(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    np.testing.assert_allclose(logits, compute_peft_logits(wrapped), atol=1e-4)
    served = compute_served_logits(base, bundle / ADAPTER_FILE)
    assert np.abs(logits - served).max() < 0.03 * logits.std()


def test_the_same_matrices_give_the_same_bytes(tmp_path):
    lora = get_lora_state(build_peft(make_shaped_decoder(tmp_path / "base.gguf", "llama")))
    digests = []
    for order in (list(lora), list(reversed(lora))):
        folder = tmp_path / f"{len(digests)}"
        folder.mkdir()
        export_peft({name: lora[name] for name in order}, folder, lora_alpha=12.0)
        digests.append(compute_digest(folder))
    assert digests[0] == digests[1]


def test_ranks_that_differ_and_matrices_that_are_no_lora_are_refused(tmp_path):
    pair = {"m.a.lora_A.weight": np.ones((2, 4), np.float32), "m.b.lora_A.weight": np.ones((3, 4), np.float32)}
    with pytest.raises(ExportError, match=r"one rank for all layers, not \[2, 3\]"):
        export_peft(pair, tmp_path, lora_alpha=1.0)
    with pytest.raises(ExportError, match="no LoRA matrix"):
        export_peft({"m.a.lora_A.weight": np.ones((2, 4), np.float32), "head": np.ones(2, np.float32)}, tmp_path, lora_alpha=1.0)


def test_a_trained_decoders_bundle_holds_both_forms_of_its_adapter(tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", "qwen3")
    work = train_decoder(
        make_examples(4),
        LABELS,
        base_gguf=base,
        settings=DecoderSettings(threads=1, precision="fp32", epochs=1, mode="faithful", n_ctx=2048),
        checkpoint_dir=tmp_path / "run",
        on_progress=lambda progress: None,
        should_stop=lambda: False,
        run=RUN,
    )
    config = json.loads((work / PEFT_CONFIG_FILE).read_text())
    assert config["r"] == 16
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    bundle = seal(work, tmp_path / "adapters")
    assert (bundle.directory / PEFT_WEIGHTS_FILE).stat().st_size > 0.9 * (bundle.directory / ADAPTER_FILE).stat().st_size
    assert Bundle.load(bundle.directory).digest == bundle.directory.name


def test_a_bundle_from_before_without_pefts_files_is_read_as_it_was(tmp_path):
    base = make_shaped_decoder(tmp_path / "base.gguf", "llama")
    work = tmp_path / "work"
    work.mkdir()
    export(build_peft(base), base, work / ADAPTER_FILE)
    write_json(work / CALIBRATION_FILE, Calibration())
    write_json(work / PROBE_FILE, Probe(texts=("a",), expected=((0.0,),), base=((1.0,),)))
    write_json(work / MANIFEST_FILE, make_manifest(base))
    digest = compute_digest(work)
    assert seal(work, tmp_path / "adapters").digest == digest
    (tmp_path / "adapters" / digest / PEFT_WEIGHTS_FILE).write_bytes(b"added later")
    with pytest.raises(BundleError, match="was changed after it was written"):
        Bundle.load(tmp_path / "adapters" / digest)
