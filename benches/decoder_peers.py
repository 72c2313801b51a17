"""The other sides of the decoder's comparison: llama-server and llama-cpp-python's server, both under a grammar.

Knows how each is asked at its best; nothing of our engine's search over labels.
"""

from collections.abc import Sequence
from typing import Final

from benches.clients import HTTPClient
from bot.engine.protocol import ChoiceSet

SLOTS: Final = 8
ANSWER_END: Final = "\n"
"""What every answer ends with: a peer that stops there saves the step that would only confirm the end."""
CONTEXT_TOKENS: Final = 2048
"""Of each slot: the label list, a ticket and an answer."""


def get_server_args(*, threads: int) -> list[str]:
    """Return llama-server's flags: eight slots, continuous batching and prompt cache (both its default), reuse of shifted chunks."""
    args = ["--threads", str(threads), "--threads-batch", str(threads), "--parallel", str(SLOTS)]
    args += ["--ctx-size", str(SLOTS * CONTEXT_TOKENS), "--cache-reuse", "32", "--batch-size", "2048", "--ubatch-size", "512"]
    # every slot keeps the label list by itself; copying old prompts to memory and back only costs time here
    return [*args, "--cache-ram", "0"]


def get_llama_cpp_python_args(*, threads: int) -> list[str]:
    """Return the flags of llama-cpp-python's server: logits of the last token alone, and nobody's request is broken off for another's."""
    args = ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--n_ctx", str(CONTEXT_TOKENS), "--n_batch", "512"]
    return [*args, "--logits_all", "false", "--interrupt_requests", "false", "--verbose", "false"]


def build_grammar(answers: Sequence[Sequence[int]]) -> str:
    """Return the GBNF that admits exactly these answers, each as its own tokens.

    Tokens, not characters: a model with random weights would spell a label in twice as many pieces as a trained one does.
    """
    return "root ::= " + " | ".join(" ".join(f"<[{token}]>" for token in answer) for answer in answers)


async def ask_server(client: HTTPClient, choices: ChoiceSet, text: str, *, grammar: str) -> int:
    """Let llama-server write a label under a grammar; return the tokens it wrote."""
    payload = {
        "prompt": f"{choices.prefix}{text}{choices.suffix}",
        "grammar": grammar,
        "n_predict": 48,
        "stop": [ANSWER_END],
        "temperature": 0.0,
        "cache_prompt": True,
    }
    answer = await client.post("/completion", payload)
    return int(answer["tokens_predicted"])


async def ask_llama_cpp_python(client: HTTPClient, choices: ChoiceSet, text: str, *, grammar: str) -> int:
    """Let llama-cpp-python's server write a label under a grammar; return the tokens it wrote."""
    prompt = f"{choices.prefix}{text}{choices.suffix}"
    payload = {"prompt": prompt, "grammar": grammar, "max_tokens": 48, "stop": [ANSWER_END], "temperature": 0.0}
    answer = await client.post("/v1/completions", payload)
    return int(answer["usage"]["completion_tokens"])


async def ask_summary(client: HTTPClient, prompt: str, *, n_tokens: int) -> int:
    """Let llama-server write that many tokens; return how many it wrote."""
    payload = {"prompt": prompt, "n_predict": n_tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": True}
    return int((await client.post("/completion", payload))["tokens_predicted"])
