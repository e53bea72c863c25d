"""A measuring instrument: a TCP relay that counts the bytes of one node's connections, encrypted as they are."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial


@dataclass
class Relay:
    """Forwards `port` to the server's port; `counts` has (time, bytes up, bytes down) of every piece."""

    port: int
    counts: list[tuple[float, int, int]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """Bytes up and down in a span of time (of `time.time`)."""
        inside = [(up, down) for when, up, down in self.counts if begin <= when < end]
        return sum(up for up, _ in inside), sum(down for _, down in inside)


class Relays:
    """One relay for every port, all in one thread: `with Relays(ports, target) as relays: relays[0].between(...)`."""

    def __init__(self, ports: list[int], target: int, host: str):
        self.relays, self.target, self.host = [Relay(port) for port in ports], target, host
        self.open: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)

    def __enter__(self) -> list[Relay]:
        self._thread.start()
        for relay in self.relays:
            listen = self._loop.create_server(partial(_Node, self, relay), self.host, relay.port)
            asyncio.run_coroutine_threadsafe(listen, self._loop).result()
        return self.relays

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._close)
        self._thread.join()

    def _close(self) -> None:
        for transport in self.open:
            transport.abort()
        self._loop.call_soon(self._loop.stop)


class _End(asyncio.Protocol):
    """One end of a relayed connection: counts what it reads and passes it to the other end."""

    def __init__(self, relays: Relays, count: Callable[[int], None], other: asyncio.Transport | None = None):
        self.relays, self.count, self.other = relays, count, other

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        self.transport = transport
        self.relays.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self.count(len(data))
        assert self.other is not None, "a node reads nothing before"
        self.other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.relays.open.discard(self.transport)
        if self.other is not None:
            self.other.close()


class _Node(_End):
    """The end that a node connects to. It reads nothing before the server's end is there."""

    def __init__(self, relays: Relays, relay: Relay):
        super().__init__(relays, lambda count: relay.counts.append((time.time(), count, 0)))
        self.relay = relay

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        super().connection_made(transport)
        transport.pause_reading()
        self.connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        def server_end() -> _End:
            return _End(self.relays, lambda count: self.relay.counts.append((time.time(), 0, count)), self.transport)

        try:
            self.other, _ = await asyncio.get_running_loop().create_connection(
                server_end, self.relays.host, self.relays.target
            )
            self.transport.resume_reading()
        except OSError:  # the server has ended: so does the connection
            self.transport.close()
