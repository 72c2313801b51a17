"""People's rights over their data: corrections of masking, export, erasure, retention and the map of what is kept.

Importing this package loads nothing; `bot.privacy.service` puts the parts together.
"""
