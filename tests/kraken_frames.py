"""Small Kraken books in the words of both protocols, with checksums made here, apart from the C code."""

import zlib

BIDS = [["10.00", "1.000"], ["9.99", "2.000"], ["9.98", "3.000"]]
ASKS = [["10.01", "4.000"], ["10.02", "5.000"], ["10.03", "6.000"]]


def crc(bids, asks) -> int:
    """The checksum of a book given best first, from its texts."""
    digits = "".join(
        text.replace(".", "").lstrip("0")
        for side in (asks, bids)
        for row in side[:10]
        for text in row[:2]
    )
    return zlib.crc32(digits.encode())


def v1(symbol="A/B", name="book-10", **members) -> list:
    return [1, members, name, symbol]


def timed(rows, at="1700000000.000001") -> list:
    return [[*row, at] for row in rows]


def snapshot_v1(symbol="A/B", bids=BIDS, asks=ASKS) -> list:
    return v1(symbol, **{"as": timed(asks), "bs": timed(bids)})


def v2(
    kind="update", symbol="A/B", bids=(), asks=(), checksum=0, time="2026-08-01T02:53:53.646219Z"
) -> str:
    def rows(side) -> str:
        return ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in side)

    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{rows(bids)}],'
        f'"asks":[{rows(asks)}],"checksum":{checksum},"timestamp":"{time}"}}]}}'
    )


def snapshot_v2(symbol="A/B", bids=BIDS, asks=ASKS) -> str:
    return v2("snapshot", symbol, bids, asks, crc(bids, asks))


SNAPSHOTS = {"kraken_v1": snapshot_v1, "kraken_v2": snapshot_v2}


def update(venue, bids, asks, book, symbol="A/B", checksum=None) -> list | str:
    """An update in the venue's words; `book` is (bids, asks) after it, which gives the checksum."""
    checksum = crc(*book) if checksum is None else checksum
    if venue == "kraken_v2":
        return v2("update", symbol, bids, asks, checksum)
    members = {"a": timed(asks)} if asks else {}
    if bids:
        members["b"] = timed(bids)
    return v1(symbol, **members, c=str(checksum))


BETTER_BID = ([["10.00", "7.000"]], [], ([["10.00", "7.000"], *BIDS[1:]], ASKS))
