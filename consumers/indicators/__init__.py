"""Technical indicators with TA-Lib's semantics, as functions of whole series and as streams that give the same bits.

    from consumers.indicators import macd, rsi
    line, signal, histogram = macd(close)            # float64 arrays, NaN while warming up

    from consumers.indicators import rsi_state, rsi_step
    state = rsi_state(timeperiod=14)                 # one flat float64 array: a copy is a checkpoint
    value = rsi_step(state, price)                   # from compiled code, some 4 ns

Names, order of arguments, defaults, lookbacks and the treatment of leading NaNs are TA-Lib's;
each function's docstring gives its formula, unit, lookback and source. `INDICATORS` lists them
all with what they take and give.
"""

from consumers.indicators.averages import (
    ema,
    ema_state,
    ema_step,
    macd,
    macd_state,
    macd_step,
    sma,
    sma_state,
    sma_step,
)
from consumers.indicators.change import (
    log_returns,
    log_returns_state,
    log_returns_step,
    momentum,
    momentum_state,
    momentum_step,
)
from consumers.indicators.channels import (
    cci,
    cci_state,
    cci_step,
    keltner,
    keltner_state,
    keltner_step,
)
from consumers.indicators.deviation import (
    bollinger,
    bollinger_bandwidth,
    bollinger_bandwidth_step,
    bollinger_percent_b,
    bollinger_percent_b_step,
    bollinger_state,
    bollinger_step,
    rolling_std,
    rolling_std_state,
    rolling_std_step,
)
from consumers.indicators.flows import mfi, mfi_state, mfi_step, obv, obv_state, obv_step
from consumers.indicators.ranges import (
    donchian,
    donchian_state,
    donchian_step,
    stochastic,
    stochastic_state,
    stochastic_step,
    williams_r,
    williams_r_state,
    williams_r_step,
)
from consumers.indicators.states import reset
from consumers.indicators.table import INDICATORS, Indicator, all_indicators, warm_up
from consumers.indicators.volume import vwap, vwap_state, vwap_step
from consumers.indicators.wilder import (
    adx,
    adx_state,
    adx_step,
    atr,
    atr_state,
    atr_step,
    rsi,
    rsi_state,
    rsi_step,
)

__all__ = [
    "INDICATORS",
    "Indicator",
    "adx",
    "adx_state",
    "adx_step",
    "all_indicators",
    "atr",
    "atr_state",
    "atr_step",
    "bollinger",
    "bollinger_bandwidth",
    "bollinger_bandwidth_step",
    "bollinger_percent_b",
    "bollinger_percent_b_step",
    "bollinger_state",
    "bollinger_step",
    "cci",
    "cci_state",
    "cci_step",
    "donchian",
    "donchian_state",
    "donchian_step",
    "ema",
    "ema_state",
    "ema_step",
    "keltner",
    "keltner_state",
    "keltner_step",
    "log_returns",
    "log_returns_state",
    "log_returns_step",
    "macd",
    "macd_state",
    "macd_step",
    "mfi",
    "mfi_state",
    "mfi_step",
    "momentum",
    "momentum_state",
    "momentum_step",
    "obv",
    "obv_state",
    "obv_step",
    "reset",
    "rolling_std",
    "rolling_std_state",
    "rolling_std_step",
    "rsi",
    "rsi_state",
    "rsi_step",
    "sma",
    "sma_state",
    "sma_step",
    "stochastic",
    "stochastic_state",
    "stochastic_step",
    "vwap",
    "vwap_state",
    "vwap_step",
    "warm_up",
    "williams_r",
    "williams_r_state",
    "williams_r_step",
]
