"""The decisions of an instance made again from what is stored of them, and what its rings hold behind that."""

from pathlib import Path

from consumers import history
from consumers.risk_stored import Report, verify_stored
from shm.registry import ring_names


def verify_decisions(instance: str, day: str = "", data_dir: Path | None = None) -> Report:
    """Make the decisions of a day, or all, again; the instance may run or be down (`data_dir`: where its recorder wrote)."""
    is_running = any(True for _ in ring_names(instance))
    return verify_stored(history.connect(instance, data_dir), day, is_running)
