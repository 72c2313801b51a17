"""What can be set about the inference engine.

Knows the numbers' names and bounds, not how the engine uses them; importing it loads no library.
"""

from pydantic import BaseModel, ConfigDict, Field


class EngineSettings(BaseModel):
    """Sizes and limits of one engine; the defaults suit the embedded encoder on a small machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_threads: int = Field(
        default=2, ge=1, le=256, description="CPU threads that compute; more than there are cores makes it slower."
    )
    n_gpu_layers: int = Field(
        default=0,
        ge=-1,
        description="Layers kept on the GPU where llama.cpp was built for one; 0 computes on the CPU, -1 keeps all.",
    )
    queue_limit: int = Field(default=256, ge=1, description="Requests that may wait or run; one more is refused with 429.")
    deadline_s: float = Field(
        default=30.0, gt=0.0, description="Seconds a suggestion may take, waiting included; later ones are dropped uncomputed."
    )
    text_deadline_s: float = Field(
        default=180.0, gt=0.0, description="Seconds a summary may take to be written, waiting included."
    )
    drain_s: float = Field(
        default=5.0,
        gt=0.0,
        description="Longest wait of a swap for requests that still run on the adapter before; they may end there.",
    )
    stall_s: float = Field(
        default=60.0, gt=0.0, description="Seconds one step of the engine may take before health reports it as stuck."
    )
    text_tokens: int = Field(
        default=256, ge=16, le=32_768, description="Tokens of one text an encoder reads; the middle of a longer one is left out."
    )
    encoder_batch_tokens: int = Field(
        default=192,
        ge=16,
        le=32_768,
        description="Tokens an encoder computes in one step; attention spans the batch, so larger batches are slower.",
    )
    merge_limit_mib: int = Field(
        default=512,
        ge=0,
        description="Largest size of an encoder with an adapter added into full-precision layers, per adapter; a larger one keeps its quantised "
        "weights and computes adapters beside them, slower. 0 never adds them in.",
    )
    n_ctx: int = Field(
        default=8192,
        ge=256,
        description="Tokens a decoder's cache holds for all running requests and their shared prompts together.",
    )
    n_batch: int = Field(default=512, ge=32, description="Most tokens a decoder computes in one step.")
    n_seq_max: int = Field(
        default=128,
        ge=4,
        le=256,
        description="Sequences in a decoder's cache: shared prompts, requests and branches of the label tree.",
    )
    decoder_text_tokens: int = Field(
        default=1024, ge=16, description="Tokens of one text a decoder reads; the middle of a longer one is left out."
    )
    label_top_k: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Labels at the top whose probability a decoder computes exactly; 0 computes those of all labels.",
    )
    prefix_limit: int = Field(
        default=8, ge=1, le=64, description="Shared prompts a decoder keeps ready; the least used goes first."
    )
    seed: int = Field(default=0, ge=0, description="Seed for sampling where a request asks for a temperature above 0.")
