"""Engines whose model runs in another process: llama-server, or an OpenAI-compatible server with runtime LoRA loading (vLLM)."""
