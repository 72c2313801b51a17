"""Training of the small name model that `bot.masking` ships: word list, templates, data, training, measurement.

Knows nothing of tickets, adapters or the database; run it with `python -m training.pii`.
"""
