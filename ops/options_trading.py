"""The typed options of [orders] and [risk]: who may trade, within which limits, at which rates."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumers.rates import RATE_PATTERN
from ops.options_base import Options, Positive, Seconds, WorkerOptions

RateText = Annotated[str, Meta(pattern=RATE_PATTERN)]


class LimitOptions(Options, kw_only=True, forbid_unknown_fields=True):
    """One limit of `[risk] limits`."""

    check: Literal["order_size", "position_size", "exposure", "open_positions", "daily_loss"]
    scope: Literal["instrument", "venue", "currency", "account", "portfolio"]
    value: str
    name: str = ""
    account: str = ""


class OrdersOptions(WorkerOptions):
    """The orders worker."""

    enabled: bool = False
    restart: Literal["always", "on-failure", "never", "group"] = "group"
    group: str = "trading"
    accounts: dict[str, Annotated[int, Meta(ge=1, le=63)]] = msgspec.field(
        default_factory=lambda: {"main": 1}
    )
    slots: int = 16_384
    test_fills: bool = False


class RiskOptions(WorkerOptions):
    """The risk worker and the control ring."""

    enabled: bool = False
    restart: Literal["always", "on-failure", "never", "group"] = "group"
    group: str = "trading"
    inputs: tuple[str, ...] = ("*.events",)
    slots: int = 16_384
    checkpoint_s: Positive = 1.0
    start: Literal["active", "reducing", "halted"] = "active"
    halt_on_restart: bool = True
    currency: str = "USD"
    collar_bp: Annotated[int, Meta(ge=0, le=10_000)] = 500
    rate_orders: Annotated[int, Meta(ge=0, le=1024)] = 100
    rate_window_s: Positive = 1.0
    book_age_s: Seconds = 5.0
    rates: dict[str, RateText] = {}
    rate_age_s: Seconds = 60.0
    limits: list[LimitOptions] = []
