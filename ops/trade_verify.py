"""The decisions of an instance made again from what is stored of them, and what its rings hold behind that."""

from consumers import history
from consumers.risk_stored import Report, verify_stored
from shm.registry import ring_names


def verify_decisions(instance: str, day: str = "") -> Report:
    """Make the decisions of a day, or all, again; the instance may run or be down."""
    is_running = any(True for _ in ring_names(instance))
    return verify_stored(history.connect(instance), day, is_running)
