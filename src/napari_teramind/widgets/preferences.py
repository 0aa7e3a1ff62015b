"""What the user chose under napari's *Preferences > Tera-MIND*; declared in ``napari.yaml``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.settings import get_plugin_settings

if TYPE_CHECKING:
    from napari.settings import PluginSettings

PLUGIN = "napari-teramind"


def preferences() -> PluginSettings:
    """Return the plugin's preferences, as ``preferences().generate.steps``."""
    return get_plugin_settings(PLUGIN)


def when_preferred(group: str, call: Callable[[], Any]) -> Callable[[], None]:
    """Call a function whenever a preference of a group changes.

    Parameters
    ----------
    group
        ``"generate"`` or ``"memory"``.
    call
        Called without arguments.

    Returns
    -------
    callable
        Call it to hear no more of changes.
    """
    events = getattr(preferences(), group).events

    def changed(event: Any = None) -> None:
        call()

    events.connect(changed)
    return lambda: events.disconnect(changed)
