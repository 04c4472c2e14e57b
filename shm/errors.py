"""Every error that shared memory can answer, in one tree; each message tells what, the value, the limit, what to do.

TickringError
├── AttachError            a region is there but may not be used, or is not there
│   ├── NoRing             nothing under that name
│   ├── TooShort           shorter than its header says, or than any header
│   ├── NoMagic            not (yet) initialised
│   ├── WrongLayout        another layout version, byte order, or kind of region
│   ├── WrongAbi           the record's fields differ; the message holds the field diff
│   ├── WrongPermissions   the file's owner or mode is not what tickring makes, or we may not open it
│   └── Retired            its owner has given it up
├── OwnershipError         somebody else owns the ring
├── NoSpace                /dev/shm is full
├── Lapped                 records were overwritten before they were read (`lost_from`, `lost_to`)
├── BackPressure           "wait" mode: no room before the time-out
├── SequenceExhausted      seq 2**61 reached
└── ConfigurationError     a name or number in the configuration is refused
"""


class TickringError(Exception):
    """Base of everything that tickring raises on purpose."""


class AttachError(TickringError):
    """A region cannot be attached."""


class NoRing(AttachError):
    """Nothing under that name."""


class TooShort(AttachError):
    """The region is shorter than its header says."""


class NoMagic(AttachError):
    """The region is not initialised: its owner died while making it, or is making it now."""


class WrongLayout(AttachError):
    """Another layout version, byte order or kind of region."""


class WrongAbi(AttachError):
    """The record's fields are not the ones that this program knows."""


class WrongPermissions(AttachError):
    """We may not open the region, or its owner or mode is not what tickring makes."""


class Retired(AttachError):
    """The owner has given the ring up; attach again by name for its successor."""


class OwnershipError(TickringError):
    """Somebody else owns the ring."""


class NoSpace(TickringError):
    """The shared-memory file system is full."""


class Lapped(TickringError):
    """Records lost_from .. lost_to were overwritten before they were read."""

    def __init__(self, ring: str, lost_from: int, lost_to: int) -> None:
        self.lost_from = lost_from
        self.lost_to = lost_to
        super().__init__(
            f"ring {ring}: records {lost_from}..{lost_to} ({lost_to - lost_from + 1}) were overwritten before "
            'they were read; read faster, enlarge `slots`, or follow with on_lapped="skip"'
        )


class BackPressure(TickringError):
    """A "wait" ring had no room before the time-out."""


class SequenceExhausted(TickringError):
    """The ring has reached seq 2**61."""


class ConfigurationError(TickringError):
    """A name or number in the configuration is refused."""
