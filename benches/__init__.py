"""Measures the product against its peers, on this machine, with the same files and prompts. Ships with the source, not with the wheel."""
