"""llama-bench: the rate at which llama.cpp alone reads prompts of a model.

Knows its flags and its output; what the rate is compared with is the comparisons' business.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from benches.paths import BenchError
from benches.tools import ensure_tools, get_tool_env


async def measure_prefill(model: Path, *, threads: int, lengths: Sequence[int] = (512,), is_encoder: bool = False) -> float:
    """Return the best tokens per second over prompts of these lengths. Raises BenchError."""
    tool = ensure_tools(["llama-bench"])["llama-bench"]
    command = [
        str(tool),
        "-m",
        str(model),
        "-p",
        ",".join(map(str, lengths)),
        "-n",
        "0",
        "-t",
        str(threads),
        "-r",
        "2",
        "-o",
        "json",
    ]
    command += ["-b", "512", "-ub", "512", "-embd", "1" if is_encoder else "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=get_tool_env()
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        message = f"llama-bench ended with code {process.returncode}\n{errors.decode(errors='replace')[-600:]}"
        raise BenchError(message)
    return max(float(row["avg_ts"]) for row in json.loads(output))
