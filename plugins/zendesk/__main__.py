"""`python -m plugins.zendesk setup`: the set-up command without the rest of the command line."""

from plugins.zendesk.cli import app

if __name__ == "__main__":
    app()
