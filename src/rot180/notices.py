"""What a long task has to say to whoever waits: the command line listens, a library's user may."""

from collections.abc import Callable

listeners: list[Callable[[str], None]] = []


def notify(sentence: str) -> None:
    """Tell all listeners."""
    for listener in listeners:
        listener(sentence)
