"""What the bot and the training process share: tables, migrations, sessions and queries."""
