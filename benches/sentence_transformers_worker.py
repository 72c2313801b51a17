"""sentence-transformers as a process of its own: texts come in as JSON lines on standard input, the seconds of encoding them go out.

Run by `benches.encoder_peers` with the peer's folder on PYTHONPATH. Knows nothing of the other sides of the comparison.
"""

import json
import sys
import time
from typing import Any


def build_model(folder: str, dtype: str, *, max_tokens: int) -> Any:
    """Return the model as its own files describe it (mean pooling, unit norm), on the CPU."""
    import torch
    from sentence_transformers import SentenceTransformer

    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": kind})
    model.max_seq_length = max_tokens
    return model


def main() -> None:
    """Read one request a line, `{"texts": [...], "dtype": "float32", "batch_size": 32}`, and answer each with one line."""
    folder, threads, max_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import torch

    torch.set_num_threads(threads)
    models: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        dtype = request["dtype"]
        if dtype not in models:
            models[dtype] = build_model(folder, dtype, max_tokens=max_tokens)
        started = time.perf_counter()
        rows = models[dtype].encode(request["texts"], batch_size=request["batch_size"], show_progress_bar=False)
        seconds = time.perf_counter() - started
        first = [float(value) for value in rows[0]]
        sys.stdout.write(json.dumps({"seconds": seconds, "rows": len(rows), "first": first}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
