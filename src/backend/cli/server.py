"""Ask a Gator that is being served for what only it knows: its devices, and what they do now."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

_ENVELOPE = frozenset({"type", "title", "status", "detail", "instance", "code"})
TIMEOUT_S = 10.0

Server = Annotated[
    str, typer.Option("--server", metavar="URL", help="Where `gator serve` answers.")
]
DEFAULT_SERVER = "http://127.0.0.1:8000"


class RunningServer:
    """A client of one server; connections are kept until it is closed.

    Args:
        url: where it answers, without a path.
    """

    def __init__(self, url: str) -> None:
        import httpx2

        if not re.fullmatch(r"https?://[^/\s]+/?", url):
            raise typer.BadParameter(f"{url!r} is not http(s)://host:port.", param_hint="--server")
        self._url = url.rstrip("/")
        self._client = httpx2.Client(base_url=self._url, timeout=TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """Return the server's JSON object.

        Raises:
            NotReady: nothing answers there, or it is no Gator.
            GatorError: whatever the server refused with.
        """
        import httpx2

        from backend.errors import NotReady, from_wire

        try:
            response = self._client.request(method, path)
        except (httpx2.RequestError, httpx2.InvalidURL) as exc:
            raise NotReady(
                f"no Gator answers at {self._url}: start one with `gator serve`, or say where "
                "it is with --server."
            ) from exc
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NotReady(f"what answers at {self._url} is no Gator.")
        if response.is_error:
            details = {name: answer[name] for name in answer.keys() - _ENVELOPE}
            raise from_wire(str(answer.get("code")), str(answer.get("detail")), details)
        return answer
