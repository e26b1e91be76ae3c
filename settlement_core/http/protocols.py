"""Hypercorn's protocols of a connection, made strict and bounded.

What hypercorn parses, answers and sends stays its own. Added are: strict HTTP/1.1, HTTP/2 only where it is wanted, a
bound on frames and resets, and that an answer does not get lost because of another request on its connection.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import anyio
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h11
from anyio.lowlevel import checkpoint
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Data, EndBody, EndData, InformationalResponse, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol

from settlement_core.http.exchanges import Exchanges
from settlement_core.http.frames import FrameMeter
from settlement_core.http.strict import StrictConnection

__all__ = ["BoundedHttp2", "Protocols", "StrictHttp1"]

MORE_STREAMS = 100
"""Streams beyond the limit that are refused one by one: clients open up to 100 before they have read our limit."""

TABLE_SIZE = 4096
"""Bytes of the table that compresses our heads, whatever the client offers: it is searched for each header."""


class Protocols:
    """What hypercorn calls the protocol of a connection: HTTP/1.1 at first, or HTTP/2, as agreed with TLS."""

    def __init__(self, app: Any, config: Any, context: Any, exchanges: Exchanges, *rest: Any) -> None:
        """Take what hypercorn's protocols do, `exchanges` as their task group; the last says what TLS agreed on."""
        *parts, alpn_protocol = rest
        self._exchanges = exchanges
        self._parts = (app, config, context, exchanges, *parts)
        self.protocol: StrictHttp1 | BoundedHttp2 = (
            BoundedHttp2(*self._parts) if alpn_protocol == "h2" else StrictHttp1(*self._parts)
        )

    async def initiate(self) -> None:
        """Say what HTTP/2 begins with."""
        await self.protocol.initiate()

    async def handle(self, event: Event) -> None:
        """Handle received bytes, or the end of the connection. Raises `Flood` for a client beyond its bounds."""
        if isinstance(event, Closed):
            self._exchanges.stop()
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as assumed:
            self.protocol = BoundedHttp2(*self._parts)
            await self.protocol.initiate()
            await self.protocol.handle(RawData(assumed.data))
        except H2CProtocolRequiredError as required:
            self.protocol = BoundedHttp2(*self._parts)
            await self.protocol.initiate(required.headers, required.settings)
            await self.protocol.handle(RawData(required.data))

    def forget(self) -> None:
        """Let go of what refers to itself; nothing is handled any more."""
        if isinstance(self.protocol, BoundedHttp2):
            self.protocol.connection._frame_dispatch_table.clear()  # noqa: SLF001 - it holds the connection's methods


class StrictHttp1(H11Protocol):
    """HTTP/1.1 by `StrictConnection`, and a change to HTTP/2 only if the settings say `h2c`."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        config: Any = self.config
        self.connection = StrictConnection(max_head=config.h11_max_incomplete_size, http_2=config.h2c)

    def is_partial(self) -> bool:
        """Return whether a request has begun and not ended."""
        return bool(self.connection.trailing_data[0])

    async def _check_protocol(self, event: Any) -> None:
        if cast("Any", self.config).h2c:
            await super()._check_protocol(event)

    async def _create_stream(self, request: h11.Request) -> None:
        # without the Upgrade header, a request for a WebSocket is one for a page: neither API has any
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        if len(headers) < len(request.headers):
            request = h11.Request(
                method=request.method, target=request.target, headers=headers, http_version=request.http_version
            )
        await super()._create_stream(request)


class BoundedHttp2(H2Protocol):
    """HTTP/2 in bounds, where one stream's end leaves the others alone."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.meter = FrameMeter(max_head=self.config.h2_max_header_list_size)
        # hypercorn announces this bound, and h2 keeps its own until the client has agreed
        self.connection.decoder.max_header_list_size = self.config.h2_max_header_list_size
        # neither API has WebSockets
        self._set_local(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0)
        self._incomplete: set[int] = set()
        self._sent = anyio.Event()

    def is_partial(self) -> bool:
        """Return whether a frame has begun and not ended."""
        return self.meter.is_partial()

    async def initiate(self, headers: Any = None, settings: bytes | None = None) -> None:
        """Say what the connection begins with."""
        await super().initiate(headers, settings)
        # one stream too many would end the connection, with the answers of all others
        streams = self.config.h2_max_concurrent_streams + MORE_STREAMS
        self._set_local(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS, streams)

    def _set_local(self, code: h2.settings.SettingCodes, value: int) -> None:
        """Change what holds at once, without announcing it."""
        values: Any = {**self.connection.local_settings, code: value}
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=values)

    async def handle(self, event: Event) -> None:
        """Handle received bytes, a few frames at a time so that others have their turns; or the connection's end."""
        if not isinstance(event, RawData):
            await super().handle(event)
            self._note_sent()
            return
        for number, piece in enumerate(self.meter.pieces(event.data)):
            if self.closed:
                return
            if number:
                await checkpoint()
            await super().handle(RawData(piece))

    async def calm(self) -> None:
        """Tell the client why its connection ends."""
        with suppress(h2.exceptions.ProtocolError):
            self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            await self._flush()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer."""
        if event.stream_id in self.streams:
            if isinstance(event, Response | InformationalResponse):
                self.meter.note_sent(0)
            elif isinstance(event, Body | Data):
                self.meter.note_sent(len(event.data))
            elif isinstance(event, EndBody | EndData):
                self.meter.note_answer()
        await super().stream_send(event)
        if isinstance(event, EndBody | EndData):
            # hypercorn goes on before the end of the answer was sent, and may end the connection then
            while event.stream_id in self.stream_buffers and not self.closed:
                await self._sent.wait()

    def _note_sent(self) -> None:
        self._sent.set()
        self._sent = anyio.Event()

    async def _handle_events(self, events: list[Any]) -> None:
        # taken back as soon as they were asked, they cost no task
        void = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)} - self.streams.keys()
        for _ in void:
            self.meter.note_reset()
        for event in events:
            if getattr(event, "stream_id", None) in void and not isinstance(event, h2.events.DataReceived):
                continue
            if await self._is_for_hypercorn(event):
                await super()._handle_events([event])
        await self._flush()

    async def _is_for_hypercorn(self, event: Any) -> bool:
        """Handle what hypercorn would fail on, and return whether it should handle the rest."""
        match event:
            case h2.events.RequestReceived(stream_id=int(stream), headers=headers):
                if len(self.streams) >= self.config.h2_max_concurrent_streams:
                    self.connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
                    self.meter.note_reset()
                    return False
                if not _is_usual(headers or []):
                    self.connection.reset_stream(stream, h2.errors.ErrorCodes.PROTOCOL_ERROR)
                    self.meter.note_reset()
                    return False
                self._incomplete.add(stream)
                # hypercorn would end the connection, with requests under way, after so many
                self.keep_alive_requests = 0
            case h2.events.DataReceived(stream_id=int(stream)) if stream not in self.streams:
                # of a request that was answered or taken back; the window of the connection has to open again
                with suppress(h2.exceptions.ProtocolError):
                    self.connection.acknowledge_received_data(event.flow_controlled_length, stream)
                return False
            case h2.events.StreamEnded(stream_id=int(stream)):
                self._incomplete.discard(stream)
            case h2.events.StreamReset(stream_id=int(stream)):
                self._incomplete.discard(stream)
                if stream in self.streams:
                    self.meter.note_reset()
            case h2.events.RemoteSettingsChanged():
                encoder = self.connection.encoder
                encoder.header_table_size = min(encoder.header_table_size, TABLE_SIZE)
            case _:
                pass
        return True

    async def _priority_updated(self, event: object) -> None:
        """Ignore it: RFC 9113 abolished priorities, and a tree of them can be made to fail."""

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        self._note_sent()
        if stream_id in self._incomplete and stream_id not in self.stream_buffers:
            # answered before it was complete: the rest is not needed, and would count as an open stream
            self._incomplete.discard(stream_id)
            with suppress(h2.exceptions.ProtocolError):
                self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
                await self._flush()


def _is_usual(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request has a method and a path, both of ASCII, and asks for no tunnel."""
    pseudo = dict(headers[:6])
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    return bool(method) and bool(path) and method.isascii() and path.isascii() and method.upper() != b"CONNECT"
