"""A stand-in for Interledger's Rust Ethereum engine, as far as peers meet it: its handshake, over HTTP.

Written from what that engine sends and expects (WIRE 6.3), and on purpose without any code of ours for it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from eth_keys.datatypes import PrivateKey, Signature
from eth_utils.crypto import keccak

from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import DROP, Answer

PREFIX = b"ilp-ethl-create-account-message"


@dataclass
class RustEngine:
    """One engine in ether. `addresses` are its peers', by account; `deaf`, it answers nothing."""

    key: PrivateKey
    client: httpx2.AsyncClient
    connector_url: str = ""
    url: str = ""
    deaf: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    challenges: dict[str, bytes] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Return its own address."""
        return str(self.key.public_key.to_address())

    async def respond(self, method: str, path: str, _headers: dict[str, str], body: bytes) -> Answer:
        """Answer its connector."""
        if self.deaf:
            return DROP
        if method == "POST" and path == "/accounts":
            await self.meet(json.loads(body)["id"])
            return Answer(201, b"CREATED")
        _, _, account_id, what = path.split("/")
        return self.hear(account_id, json.loads(body)) if what == "messages" else Answer(404)

    async def meet(self, account_id: str) -> None:
        """Ask the peer for its address; 500 if that fails, as there."""
        challenge = str(uuid.uuid4()).encode()
        answer = (await self._send(account_id, {"challenge": list(challenge)})).json()
        assert self._is_signed(answer, challenge)
        self.addresses[account_id] = answer["to"]["own_address"]
        last = await self._send(account_id, self._sign(bytes(answer["challenge"]), None))
        assert last.status_code == 201

    def hear(self, account_id: str, message: Any) -> Answer:
        """Take a message: first as a challenge, if it can be one, then as an answer to our own."""
        if isinstance(message.get("challenge"), list):
            self.challenges[account_id] = str(uuid.uuid4()).encode()
            answer = self._sign(bytes(message["challenge"]), self.challenges[account_id])
            return Answer(201, json.dumps(answer).encode())
        if "to" not in message or "signature" not in message:
            return Answer(400, b'{"title":"Bad Request"}', {"content-type": "application/problem+json"})
        challenge = self.challenges.get(account_id)
        if challenge is not None:
            if not self._is_signed(message, challenge):
                return Answer(400)
            self.addresses[account_id] = message["to"]["own_address"]
        return Answer(201, b"RECEIVED")

    async def _send(self, account_id: str, message: Any) -> httpx2.Response:
        url = f"{self.connector_url}/accounts/{account_id}/messages"
        headers = {"content-type": "application/octet-stream", "idempotency-key": str(uuid.uuid4())}
        return await self.client.post(url, content=json.dumps(message), headers=headers)

    def _sign(self, challenge: bytes, back: bytes | None) -> dict[str, Any]:
        signature = self.key.sign_msg_hash(keccak(PREFIX + challenge))
        numbers = {"v": signature.v + 27, "r": signature.r, "s": signature.s}
        return {
            "to": {"own_address": self.address, "token_address": None},
            "signature": {name: list(n.to_bytes((n.bit_length() + 7) // 8)) for name, n in numbers.items()},
            "challenge": None if back is None else list(back),
        }

    def _is_signed(self, answer: Any, challenge: bytes) -> bool:
        v, r, s = (int.from_bytes(bytes(answer["signature"][name])) for name in ("v", "r", "s"))
        signer = Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(keccak(PREFIX + challenge))
        return bool(signer.to_address() == answer["to"]["own_address"] and answer["to"]["token_address"] is None)


@asynccontextmanager
async def open_rust_engine(key: str) -> AsyncIterator[RustEngine]:
    """Serve one for the block."""
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=30.0) as client:
        engine = RustEngine(PrivateKey(bytes.fromhex(key[2:])), client)
        async with open_server(engine.respond) as engine.url:
            yield engine
