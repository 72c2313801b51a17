"""The data map: every table and column, what it holds and in what form, how long, who reads it, where it leaves, what erasure does.

The list of tables and columns is the database's own; what is said of them is `bot.privacy.datamap_entries`, and a test misses none.
"""

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, select

from bot.privacy.datamap_entries import ENTRIES, TableEntry
from bot.privacy.settings import RetentionSettings
from bot.privacy_api import ColumnInfo, TableInfo
from db.tables import Row


def build_map(session: Session, *, retention: RetentionSettings, vault_days: int) -> list[TableInfo]:
    """Return the map, by table name, with the number of rows there are now. Raises KeyError for a table without an entry."""
    tables = []
    for name, table in sorted(Row.metadata.tables.items()):
        entry = ENTRIES[name]
        columns = tuple(ColumnInfo(column.name, str(column.type), *entry.columns[column.name]) for column in table.columns)
        n_rows = session.connection().execute(select(func.count()).select_from(table)).scalar_one()
        tables.append(
            TableInfo(
                name=name,
                holds=entry.holds,
                retention=describe_retention(entry, retention, vault_days=vault_days),
                readers=entry.readers,
                leaves=entry.leaves,
                on_erasure=entry.on_erasure,
                columns=columns,
                n_rows=n_rows,
            )
        )
    return tables


def describe_retention(entry: TableEntry, retention: RetentionSettings, *, vault_days: int) -> str:
    """Say how long rows stay under these settings."""
    if entry.retention == "vault_days":
        return f"{vault_days} days after the ticket's last change (vault_days)"
    if not hasattr(retention, entry.retention):
        return entry.retention
    days = getattr(retention, entry.retention)
    limit = f"{days} days" if days else "no limit"
    return f"{limit} (retention.{entry.retention})"


def render_markdown(tables: Sequence[TableInfo]) -> str:
    """Return the map as a page."""
    lines = ["# Data map", "", "Generated from the tables themselves by `understudy privacy map`.", ""]
    for table in tables:
        lines += [
            f"## {table.name}",
            "",
            f"{table.holds} {table.n_rows} rows.",
            "",
            f"- kept: {table.retention}",
            f"- read by: {table.readers}",
            f"- leaves: {table.leaves}",
            f"- on erasure: {table.on_erasure}",
            "",
            "| column | type | form | holds |",
            "|---|---|---|---|",
            *(f"| {column.name} | {column.type} | {column.form} | {column.holds} |" for column in table.columns),
            "",
        ]
    return "\n".join(lines)
