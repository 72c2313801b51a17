"""Prompts, label sets and output parsing: the one place where a prompt is rendered or an answer parsed."""
