"""The networks published with Tera-MIND: what there is, fetched, unpacked and converted.

Nothing is loaded here that a panel would wait for; torch is imported where a network is converted.
"""

from __future__ import annotations

from napari_teramind.published.folder import checkpoint_folder
from napari_teramind.published.genes import fetch_gene_list, is_gene_list_address
from napari_teramind.published.here import Network, Offer, offers
from napari_teramind.published.networks import Got, get_networks
from napari_teramind.published.record import Record, RecordFile, read_record

__all__ = [
    "Got",
    "Network",
    "Offer",
    "Record",
    "RecordFile",
    "checkpoint_folder",
    "fetch_gene_list",
    "get_networks",
    "is_gene_list_address",
    "offers",
    "read_record",
]
