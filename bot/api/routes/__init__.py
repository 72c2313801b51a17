"""One module per subject; each has a `build_router(app)`."""
