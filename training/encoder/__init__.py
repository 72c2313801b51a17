"""Training of encoders: LoRA adapters with a head for classification, and the head that picks lines for summaries.

Imports nothing heavy by itself; `training.encoder.train` and `training.encoder.summary` do the work.
"""
