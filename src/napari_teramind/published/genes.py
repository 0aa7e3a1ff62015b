"""Gene lists at addresses of the web."""

from __future__ import annotations

import csv
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from napari_teramind.errors import UserError
from napari_teramind.published.web import read_small

MOST_BYTES = 4_000_000
COLUMN = "gene"


def is_gene_list_address(location: str) -> bool:
    """Whether a location is a web address of a CSV, and not of a brain."""
    parts = urlsplit(location)
    if parts.scheme not in ("http", "https"):
        return False
    return any(PurePosixPath(part).suffix == ".csv" for part in parts.path.split("/"))


def fetch_gene_list(address: str) -> tuple[str, ...]:
    """Read gene symbols from a CSV on a web server.

    Parameters
    ----------
    address
        Of a CSV with a column ``gene``; other columns are passed over.

    Raises
    ------
    UserError
        If it cannot be had, is no such CSV (as the page that shows a file in a browser), or names
        a gene twice or none.
    """
    from napari_teramind.model import parse_gene_list

    content = read_small(address, MOST_BYTES)
    try:
        text = content.decode("utf-8-sig")
        first: list[str] = next(csv.reader(text.splitlines()[:1]), [])
    except (UnicodeDecodeError, csv.Error):
        first = []
    if COLUMN not in (cell.strip() for cell in first):
        raise UserError(
            f"{address} is not a CSV with a column '{COLUMN}'; give the address of the file itself,"
            " not of a page that shows it."
        )
    return parse_gene_list(text, address)
