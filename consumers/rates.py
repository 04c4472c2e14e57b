"""What one unit of a currency is worth in the base currency: a number or an instrument's price, one meaning for all.

**Layout** As text: "1.0850", or "kraken:EUR/USD", the instrument ("<venue>:<symbol>") whose mark is that price.
"""

import re
from fractions import Fraction

import msgspec

from shm.errors import ConfigurationError

RATE_PATTERN = r"^([a-z0-9_]+:\S+|[0-9]{1,18}(\.[0-9]{1,18})?)$"
DIGITS = 18
"""Most decimals of a rate, and of the prices of an instrument that is one."""
PRICE_END = 1 << 62


class Rate(msgspec.Struct, frozen=True):
    """Where the price of one unit of a currency comes from."""

    instrument: str = ""
    """"": the rate is a number."""
    price: int = 0
    """Of a rate that is a number, at `scale`; above 0."""
    scale: int = 0

    @property
    def number(self) -> Fraction:
        """The rate as the number it is; of an instrument 0."""
        return Fraction(self.price, 10**self.scale)


def parse_rate(text: str) -> Rate:
    """Return what a rate's text means.

    Raises:
        ConfigurationError: it is neither an instrument nor a number above 0 that fits 62 bits.
    """
    if not re.match(RATE_PATTERN, text):
        raise ConfigurationError(
            f'rate {text[:80]!r}: a decimal number as "1.085", or an instrument as "kraken:EUR/USD", expected'
        )
    if ":" in text:
        return Rate(text)
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    price = int(whole + fraction)
    if not 0 < price < PRICE_END:
        raise ConfigurationError(f"rate {text!r}: above 0, and below 2**62 without its point")
    return Rate("", price, len(fraction))


def watched(rates: dict[str, str]) -> list[str]:
    """Return the instruments that rates are taken from."""
    return [text for text in rates.values() if ":" in text]


def mistakes_of(at: str, rates: dict[str, str], base: str) -> list[str]:
    """Return a line for each thing that is wrong with a table of rates.

    Args:
        at: of the table, e.g. "exposure.rates".
        base: currency that they convert to, "": none.
    """
    found = []
    if rates and not base:
        found.append(
            f"{at}: rates of {', '.join(rates)} and no currency to convert to; set base_currency"
        )
    if base in rates:
        found.append(f"{at}: {base} is the base currency; its rate is 1, leave it out")
    for currency, text in rates.items():
        try:
            parse_rate(text)
        except ConfigurationError as error:
            found.append(f"{at}.{currency}: {error}")
        if not 0 < len(currency.encode()) <= 16:
            found.append(f"{at}.{currency}: a currency of 1 to 16 bytes expected")
    return found
