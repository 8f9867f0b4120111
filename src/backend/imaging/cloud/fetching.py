"""Fetch a picture from the address that a provider answered with, and from nowhere else.

The address is somebody else's word, so each hop must pass the same rule: https, a host that is the
provider's own or was configured, and an address of that host on the public internet, to which the
connection is then made, so that a second answer of the name server changes nothing. Where the
provider itself was configured at a private address, that very host and port are allowed, and over
http if it stands on loopback. No key or cookie goes along; nothing is read beyond the limit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from backend.errors import ProviderError, ProviderTimeout
from backend.imaging.cloud.retrying import Passing, retry_after

MAX_HOPS = 3
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class FetchRules:
    """Where pictures may come from, and how large and slow they may be.

    Attributes:
        scheme: that of the provider's base URL.
        host: its host, in lower case.
        port: its port.
        more_hosts: further hosts, reached over https at public addresses on port 443 only.
        max_bytes: no more is read.
        timeout_s: seconds for all hops together.
        tls: whom to trust; the public authorities where left out.
    """

    scheme: str
    host: str
    port: int
    more_hosts: frozenset[str]
    max_bytes: int
    timeout_s: float
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(
        cls,
        base_url: str,
        more_hosts: tuple[str, ...] = (),
        *,
        max_bytes: int,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Derive the rules from a provider's base URL."""
        parts = urlsplit(base_url)
        return cls(
            scheme=parts.scheme,
            host=_host(parts),
            port=parts.port or _PORTS.get(parts.scheme, 443),
            more_hosts=frozenset(_plain(host) for host in more_hosts),
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            tls=tls,
        )

    async def checked(self, url: str) -> tuple[SplitResult, Address]:
        """Return the parts of an address that may be fetched, and where its host stands.

        Raises:
            ProviderError: it may not.
        """
        parts = _split(url)
        host, port = _host(parts), _port(parts)
        own = (host, port) == (self.host, self.port) and parts.scheme == self.scheme
        if not host or parts.username is not None or parts.password is not None:
            raise _refusal(url, "is no plain web address")
        if host != self.host and host not in self.more_hosts:
            raise _refusal(
                url, f"is not at {self.host}; GATOR_CLOUD_IMAGE_HOSTS lists further hosts"
            )
        if not own and port != _PORTS["https"]:
            raise _refusal(url, "has a port that is not the provider's")
        found = await _addresses(host, port)
        if not found:
            raise _refusal(url, "has a host without an address")
        loopback = all(address.is_loopback for address in found)
        if parts.scheme != "https" and not (own and parts.scheme == "http" and loopback):
            raise _refusal(url, "is not https")
        if not own and not all(map(is_public, found)):
            raise _refusal(url, "leads to a private address")
        return parts, found[0]


def is_public(address: Address) -> bool:
    """Tell whether an address is on the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(wrapped)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def fetch(url: str, rules: FetchRules) -> bytes:
    """Return what stands at an address, after at most 3 redirects, each checked like the first.

    Raises:
        Passing: the host failed in a way that may pass.
        ProviderError: the address may not be fetched, or what stands there is too large.
    """
    try:
        async with asyncio.timeout(rules.timeout_s), _client(rules) as client:
            for _ in range(MAX_HOPS + 1):
                parts, address = await rules.checked(url)
                async with _asked(client, parts, address) as response:
                    if response.status_code not in _REDIRECTS:
                        return await _read(response, rules.max_bytes)
                    url = _joined(url, response.headers.get("location", ""))
    except (TimeoutError, httpx2.TimeoutException) as exc:
        raise Passing(
            ProviderTimeout(f"the picture did not come within {rules.timeout_s:g} s.")
        ) from exc
    except httpx2.RequestError as exc:
        raise Passing(ProviderError(f"the picture could not be fetched: {exc}")) from exc
    except httpx2.InvalidURL as exc:
        raise _refusal(url, "is no plain web address") from exc
    raise ProviderError(f"the picture's address was redirected more than {MAX_HOPS} times.")


def _client(rules: FetchRules) -> httpx2.AsyncClient:
    """Make a client that follows, trusts and sends nothing by itself."""
    return httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        timeout=rules.timeout_s,
        verify=rules.tls or ssl.create_default_context(),
    )


@asynccontextmanager
async def _asked(
    client: httpx2.AsyncClient, parts: SplitResult, address: Address
) -> AsyncIterator[httpx2.Response]:
    """Ask the host at the address that was checked; its certificate must name the host."""
    shown = f"[{address}]" if address.version == 6 else str(address)
    placed = parts._replace(netloc=f"{shown}:{_port(parts)}", fragment="").geturl()
    headers = {"Host": parts.netloc, "Accept": "image/*", "Accept-Encoding": "identity"}
    extensions = {"sni_hostname": _host(parts)} if parts.scheme == "https" else {}
    async with client.stream("GET", placed, headers=headers, extensions=extensions) as response:
        yield response


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    status = response.status_code
    if status != httpx2.codes.OK:
        error = ProviderError(f"the picture's host answered with HTTP status {status}.")
        if status == httpx2.codes.TOO_MANY_REQUESTS or status >= 500:
            raise Passing(error, retry_after(response.headers.get("retry-after")))
        raise error
    declared = response.headers.get("content-length", "")
    data = bytearray()
    if not (declared.isdecimal() and int(declared[:20]) > max_bytes):
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > max_bytes:
                break
        else:
            return bytes(data)
    raise ProviderError(f"the picture is larger than {max_bytes // 1024**2} MiB.")


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as exc:
        raise _refusal(location, "is no plain web address") from exc


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme, 0)


def _host(parts: SplitResult) -> str:
    return _plain(parts.hostname or "")


def _plain(host: str) -> str:
    return host.strip().lower().rstrip(".")


def _refusal(url: str, why: str) -> ProviderError:
    shown = url.partition("?")[0]
    return ProviderError(f"the picture's address {shown[:200]!r} {why}; it was not fetched.")
