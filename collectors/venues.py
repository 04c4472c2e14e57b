"""Every venue that can be collected or replayed, by the name that the topology and `tickring replay --venue` use."""

from collectors.decoder import Decoder
from collectors.kraken_v1 import KrakenV1
from collectors.kraken_v2 import KrakenV2

DECODERS: dict[str, type[Decoder]] = {"kraken_v1": KrakenV1, "kraken_v2": KrakenV2}
