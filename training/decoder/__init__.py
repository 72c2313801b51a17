"""Training decoders: LoRA on a causal language model, labels scored and summaries written by the engine that serves.

Imports nothing by itself.
"""
