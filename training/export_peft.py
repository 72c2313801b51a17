"""Writes LoRA matrices once more in PEFT's own form, for servers that load adapters so (vLLM).

Knows PEFT's file names and the few settings that such a server reads; the engine's own file is `training.export`'s.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bot.bundle import PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE
from training.export import Array, ExportError


def export_peft(lora: Mapping[str, Array], directory: Path, *, lora_alpha: float) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` of a causal language model; call it before the bundle is sealed.

    The same matrices always give the same bytes. Raises ExportError where the layers differ in rank: such servers scale all alike.
    """
    ranks = {matrix.shape[0] for name, matrix in lora.items() if ".lora_A." in name}
    if len(ranks) != 1:
        raise ExportError(f"an adapter in PEFT's form needs one rank for all layers, not {sorted(ranks)}; train them alike")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,  # the file that serves is no repository
        "r": ranks.pop(),
        "lora_alpha": int(lora_alpha) if lora_alpha == int(lora_alpha) else lora_alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({_read_module(name).rpartition(".")[2] for name in lora}),
        "bias": "none",
        "inference_mode": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
    (directory / PEFT_CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    save_file(
        {name: np.ascontiguousarray(matrix, np.float32) for name, matrix in sorted(lora.items())}, directory / PEFT_WEIGHTS_FILE
    )


def _read_module(name: str) -> str:
    module, _, rest = name.rpartition(".lora_")
    if not rest.endswith(".weight") or not module:
        raise ExportError(f"'{name}' is no LoRA matrix; only LoRA adapters without extra weights can be served")
    return module
