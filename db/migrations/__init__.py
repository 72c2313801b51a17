"""Alembic's folder: one file per step of the schema, in `versions`. `db.migrate` runs them."""
