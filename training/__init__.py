"""The training process: dataset, QLoRA, export, evaluation, gate, registry. Meets the bot in the database alone."""
