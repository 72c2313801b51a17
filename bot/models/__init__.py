"""Base models: the embedded default, the catalog, licence notes."""
