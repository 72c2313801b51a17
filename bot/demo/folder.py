"""The demo's own folder: the settings under which it runs, and the models it shares with the installation around it.

Knows nothing of what the demo does.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bot.settings import CONFIG_FILE, CONFIG_VARIABLE, ENV_PREFIX

CONFIG = """\
# The demo starts its runs itself, so that they come when the story needs them.
[training]
cron = ""
override_rate = 1.0
has_degradation_trigger = false
"""


def build_demo_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return an environment in which no setting of an installation counts: the demo must never touch its database."""
    # How much is logged changes nothing of what the demo does, and is wanted to look into a fault.
    level = environ.get("UNDERSTUDY_LOG_LEVEL", "warning")
    return {
        **{name: value for name, value in environ.items() if not name.startswith(ENV_PREFIX)},
        CONFIG_VARIABLE: str(home / CONFIG_FILE),
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_DATABASE_URL": f"sqlite:///{home / 'understudy.db'}",
        "UNDERSTUDY_LOG_LEVEL": level,
    }


def reuse_models(home: Path) -> None:
    """Share the model file that set-up or `serve` has written already, instead of writing it again."""
    models = home.parent / "models"
    if models.is_dir():
        shutil.copytree(models, home / "models", copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
