"""Asking a web server for a file, or for the rest of one.

The standard library does: no dependency of this package fetches a large file so that it can go on
after a cut (pooch begins anew), and what is missing, a header and a loop, is short.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from napari_teramind.errors import UserError

TIMEOUT_SECONDS = 30.0
"""How long a server may take to connect, and between two pieces."""

BUSY = (429, 500, 502, 503, 504)
"""Answers of a server that may answer better a little later."""


class Unreachable(Exception):
    """A server gave no answer, or not all of it; it may be worth another try."""


def open_address(address: str, start: int = 0, stop: int | None = None) -> http.client.HTTPResponse:
    """Open a file on a web server for reading.

    Parameters
    ----------
    address
        ``http://`` or ``https://``; redirections are followed to such addresses only.
    start, stop
        Bytes wanted, half open. Whether they are what is sent says the answer's status: 206 for a
        part (RFC 9110, section 14), 200 for the whole file.

    Raises
    ------
    Unreachable
        If there is no answer.
    UserError
        If the answer is that the file is not to be had, or the address is none of the web.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address} is no address of the web; it must begin with https://.")
    # Sent as they are: a packed answer could not be gone on with.
    headers = {"User-Agent": "napari-teramind", "Accept-Encoding": "identity"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  # checked above
    try:
        answer: http.client.HTTPResponse = _opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in BUSY:
            raise Unreachable(f"the server is busy ({error.code} {error.reason})") from error
        raise UserError(
            f"{address} is not to be had (the server says {error.code} {error.reason}); check the "
            "address, or try again later."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(reason(error)) from error
    return answer


@contextmanager
def told_as_user_error(address: str) -> Iterator[None]:
    """Turn everything that can go wrong with a connection into one sentence."""
    try:
        yield
    except (Unreachable, OSError, http.client.HTTPException) as error:
        server = urlsplit(address).netloc
        raise UserError(
            f"{server} cannot be reached ({reason(error)}); check the network connection, or try "
            "again later."
        ) from error


def read_small(address: str, most: int) -> bytes:
    """Read a small file from a web server.

    Parameters
    ----------
    address
        Where it is.
    most
        Bytes that it may have.

    Raises
    ------
    UserError
        If it cannot be had, or is larger.
    """
    with told_as_user_error(address), open_address(address) as answer:
        content = answer.read(most + 1)
    if len(content) > most:
        raise UserError(f"{address} is larger than {most:,} bytes; check the address.")
    return content


def read_piece(answer: http.client.HTTPResponse, most: int) -> bytes:
    """Read what has come of an answer that is not at its end; at least a byte.

    Raises
    ------
    Unreachable
        If nothing comes any more.
    """
    try:
        # Not read(): that waits for all of it, however slowly it comes.
        piece = answer.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(reason(error)) from error
    if not piece:
        raise Unreachable("the connection was cut")
    return piece


def reason(error: BaseException) -> str:
    """Return why a connection failed, in a few words."""
    inner = getattr(error, "reason", None)  # of a URLError
    if isinstance(inner, BaseException):
        return reason(inner)
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words).strip().splitlines()[0].rstrip(".")


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of the web, and, unlike the usual one, nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
