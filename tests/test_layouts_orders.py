"""The records of orders, positions, decisions and controls: exact bytes, and codes that follow one rule."""

import numpy as np
import pytest

from layouts import (
    CONTROL,
    HEADER_BYTES,
    LAYOUTS,
    ORDER,
    POSITION,
    RISK_DECISION,
    AbiError,
    Check,
    Kind,
    RiskReason,
    Scope,
    check_layout,
)

OFFSETS = {
    "order": (
        ORDER,
        192,
        {
            "order_id": 32,
            "price": 40,
            "qty": 48,
            "instrument_version": 56,
            "fill_id": 64,
            "fee": 72,
            "account": 80,
            "order_type": 84,
            "price_scale": 87,
            "instructions": 91,
            "reason": 92,
            "multiplier": 96,
            "client_order_id": 104,
            "quote_currency": 144,
            "fee_currency": 160,
        },
    ),
    "position": (
        POSITION,
        320,
        {
            "source_epoch": 32,
            "applied_seq": 56,
            "qty": 120,
            "cost_low": 128,
            "realised_low": 144,
            "unrealised_low": 160,
            "fees_low": 176,
            "realised_total_high": 200,
            "average_price": 208,
            "mark_price": 216,
            "day_no": 224,
            "account": 248,
            "method": 256,
            "faults": 263,
            "quote_currency": 264,
        },
    ),
    "risk_decision": (
        RISK_DECISION,
        256,
        {
            "source_epoch": 32,
            "applied_seq": 56,
            "decision_no": 120,
            "order_id": 128,
            "limit_low": 136,
            "observed_high": 160,
            "scope_id": 168,
            "account": 176,
            "verdict": 180,
            "value_scale": 184,
            "input": 186,
            "currency": 192,
            "client_order_id": 208,
        },
    ),
    "control": (
        CONTROL,
        256,
        {
            "control_no": 32,
            "value_low": 40,
            "value_high": 48,
            "window_ns": 56,
            "action": 64,
            "check": 65,
            "value_scale": 67,
            "account": 68,
            "currency": 72,
            "scope_name": 88,
            "who": 152,
            "why": 184,
        },
    ),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_each_field_is_where_the_docstring_says(name: str) -> None:
    """Length and offsets are those agreed, and a ring may carry the layout under this name."""
    dtype, n_bytes, offsets = OFFSETS[name]
    assert dtype.itemsize == n_bytes and LAYOUTS[name] is dtype
    assert dtype.fields is not None and dtype.names is not None
    assert {field: dtype.fields[field][1] for field in offsets} == offsets
    assert dtype.fields[dtype.names[7]][1] == HEADER_BYTES


@pytest.mark.parametrize("name", OFFSETS)
def test_a_field_too_many_is_refused(name: str) -> None:
    """The agreed length is held: eight bytes more are an error, not another layout."""
    dtype, n_bytes, _ = OFFSETS[name]
    wider = np.dtype([*dtype.descr, ("extra", "<i8")])
    with pytest.raises(AbiError, match=f"{n_bytes} agreed"):
        check_layout(name, wider, n_bytes)


def test_a_reason_of_a_limit_is_ten_times_its_check_plus_its_scope() -> None:
    """Each of the five limits has a code of its own in each of the five scopes, and no code is used twice."""
    limits = [check for check in Check if Check.ORDER_SIZE <= check <= Check.DAILY_LOSS]
    assert len(limits) == len(Scope) == 5
    for check in limits:
        for scope in Scope:
            assert RiskReason(10 * check + scope).name == f"{check.name}_{scope.name}"
    others = [reason for reason in RiskReason if not 11 <= reason <= 55]
    assert len(RiskReason) == len(RiskReason.__members__) == 25 + len(others)
    assert all(reason < 256 for reason in RiskReason)


def test_kinds_fit_their_byte_and_stay_below_those_of_own_consumers() -> None:
    """Kinds are unique, and all but theirs below 64."""
    assert len(Kind) == len(Kind.__members__)
    assert max(set(Kind) - {Kind.OWN}) < Kind.OWN == 64
