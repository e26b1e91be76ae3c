"""The lying node: a JSON-RPC proxy on a loopback socket, and the order in which its lies are tried."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType

import anyio

from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import DROP, Answer
from settlement_core.testing.lying_node._bodies import BODY_LIES
from settlement_core.testing.lying_node._branches import Branches
from settlement_core.testing.lying_node._calls import (
    body_of,
    describe_change,
    pair,
    parse_calls,
)
from settlement_core.testing.lying_node._chain import CHAIN_LIES
from settlement_core.testing.lying_node._fields import FIELD_LIES
from settlement_core.testing.lying_node._kinds import TRUTH, AnswerLie, BodyLie, Lie, ViewLie, WireLie
from settlement_core.testing.lying_node._limits import NO_LIMITS, Limits, Meter, refuse_batch, refuse_logs
from settlement_core.testing.lying_node._memory import Memory
from settlement_core.testing.lying_node._request import Request, Script, Spell, Told
from settlement_core.testing.lying_node._upstream import Upstream
from settlement_core.testing.lying_node._views import VIEW_LIES
from settlement_core.testing.lying_node._wire import WIRE_LIES

__all__ = ["LIES", "LyingNode", "open_lying_node"]

LIES: Mapping[str, Lie] = MappingProxyType(
    {lie.name: lie for lie in (*FIELD_LIES, *CHAIN_LIES, *VIEW_LIES, *BODY_LIES, *WIRE_LIES)}
)
"""Every lie by its name."""

_KINDS: Mapping[type[Lie], int] = MappingProxyType({AnswerLie: 6, ViewLie: 2, BodyLie: 1, WireLie: 2})
"""How often each kind is tried first, in parts of all."""

_MORE = 0.3
"""Chance that an answer with one lie about a call gets another."""

_REPEATED = 0.3
"""Chance that a lie about a call is told again when the same question comes again, and a view in the next requests."""

_REPEATS = 4
"""Times that such a lie, or a view, is repeated at most, so that no lie lasts."""

_UPSTREAM_S = 30.0
"""Seconds a real node may take."""


class LyingNode:
    """An Ethereum node that is broken sometimes; get one from `open_lying_node`, which also ends it.

    What it says in a request depends on its seed, the methods of the request, and how many requests with these
    methods came before. So one request more or less of another kind changes nothing.

    Attributes:
        url: where it serves JSON-RPC.
        seed: what decides about its lies.
        rate: how many of the requests have a lie, from 0 to 1. May be changed at any time.
        honest: while True, no lie is told. May be changed at any time. Limits hold all the same.
        told: the lies that were told, in order.
        requests: how many requests it got.
        limited: how many of them, or of their calls, a limit refused.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        seed: int,
        rate: float,
        rates: Mapping[str, float],
        lies: Iterable[Lie],
        limits: Limits,
    ) -> None:
        self.url = ""
        self.seed = seed
        self.rate = rate
        self.honest = False
        self.told: list[Told] = []
        self.requests = 0
        self.limited = 0
        self._upstream = upstream
        self._rates = dict(rates)
        self._lies = tuple(lies)
        self._kinds = [kind for kind in _KINDS if any(isinstance(lie, kind) for lie in self._lies)]
        self._limits = limits
        self._meter = Meter(limits.requests_per_s)
        self._memory = Memory()
        self._scripts: list[Script] = []
        self._branches = Branches()
        self._spells: dict[str, Spell] = {}
        self._view: Spell | None = None
        self._counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        state = "honest" if self.honest else f"lying at a rate of {self.rate:g}"
        return f"<LyingNode {self.url}, seed {self.seed}, {state}, {len(self.told)} lies in {self.requests} requests>"

    def tell(self, name: str, *, times: int = 1, method: str | None = None) -> None:
        """Have a lie told at the next `times` opportunities, in requests (about calls) of a method, or of any.

        Raises KeyError for a name that is not in `LIES`.
        """
        self._scripts.append(Script(LIES[name], times, method))

    def report(self, *, last: int = 50) -> str:
        """Return the seed, how to repeat the lies, and the last of them, for the message of a failing test."""
        shown = self.told[-last:] if last else []
        again = (
            f"open_lying_node(…, seed={self.seed}, rate={self.rate:g}, rates={self._rates}, limits={self._limits!r})"
        )
        return "\n  ".join([f"{self!r}; to repeat: {again}; the last {len(shown)} lies:", *map(str, shown)])

    # answering

    async def respond(self, _method: str, _path: str, _headers: dict[str, str], body: bytes) -> Answer:
        """Answer an HTTP request."""
        try:
            content = json.loads(body)
        except ValueError:
            return Answer(400, b"", {})
        calls = parse_calls(content)
        self.requests += 1
        if calls is None:
            return await self._upstream.post(body)
        methods = "+".join(call.method for call in calls)
        self._counts[methods] += 1
        chance = random.Random(f"{self.seed}/{methods}/{self._counts[methods]}")
        request = Request(self.requests, body, calls, isinstance(content, list), chance)
        return self._refused(request) or await self._answer(request)

    def _refused(self, request: Request) -> Answer | None:
        """Return what a provider's limits make of the whole request, if anything."""
        if not self._meter.allows(anyio.current_time()):
            self.limited += 1
            return self._meter.refusal()
        if self._limits.batch is not None and len(request.calls) > self._limits.batch and request.batch:
            self.limited += 1
            return refuse_batch(request.calls, self._limits.batch, self._habits())
        return None

    def _habits(self) -> random.Random:
        """Return chance that is the same all the time: a provider has one way to refuse."""
        return random.Random(f"{self.seed}/habits")

    async def _answer(self, request: Request) -> Answer:
        if not self.honest:
            await self._record()
        for script, lie in self._candidates(request):
            told = await self._try(lie, request, None if script is None else script.method)
            if told and script is not None:
                script.left -= 1
            if isinstance(lie, WireLie) and told:
                return await self._befall(lie, request)
            if told:
                break
        await self._learn(request)
        self._repeat(request)
        return request.answer()

    def _candidates(self, request: Request) -> Iterator[tuple[Script | None, Lie]]:
        """Yield the lies to be tried in turn, until one is told."""
        if self.honest:
            return
        self._scripts = [script for script in self._scripts if script.left > 0]
        # what can only be told before the node has acted goes first
        for script in sorted(self._scripts, key=lambda script: isinstance(script.lie, AnswerLie | BodyLie)):
            if script.meets(request.calls):
                yield script, script.lie
        if self._view is not None:
            yield None, self._view.lie
        chance = request.chance
        if chance.random() < self._rate_of(request):
            (kind,) = chance.choices(self._kinds, [_KINDS[kind] for kind in self._kinds])
            for lie in chance.sample(self._lies, len(self._lies)):
                if isinstance(lie, kind):
                    yield None, lie
            for lie in chance.sample(self._lies, len(self._lies)):
                if isinstance(lie, AnswerLie) and kind is not AnswerLie:
                    yield None, lie

    def _rate_of(self, request: Request) -> float:
        rates = (self._rates.get(call.method, 0.0) for call in request.calls)
        return max(self.rate, *rates) if self.rate and self._lies else 0.0

    async def _try(self, lie: Lie, request: Request, method: str | None) -> bool:
        """Tell a lie if it can be told in this request."""
        if isinstance(lie, WireLie):
            return request.truth is None
        if isinstance(lie, ViewLie):
            return request.truth is None and await self._look(lie, request)
        await self._learn(request)
        if isinstance(lie, BodyLie):
            return self._misshape(lie, request)
        told = self._change(lie, request, method)
        while told and method is None and self._lies and request.chance.random() < _MORE:
            more = request.chance.choice(self._lies)
            if isinstance(more, AnswerLie):
                self._change(more, request, None)
        return told

    async def _learn(self, request: Request) -> None:
        """Have the first node answer, once; afterwards `items` is what it said, if that is an answer to each call."""
        if request.truth is not None or request.items is not None:
            return
        limit = self._limits.log_range
        refused = {
            at: refusal
            for at, call in enumerate(request.calls)
            if limit is not None and (refusal := refuse_logs(call, limit, self._habits())) is not None
        }
        self.limited += len(refused)
        request.truth = await self._upstream.post(request.body)
        try:
            request.items = pair(request.calls, json.loads(request.truth.body))
        except ValueError:
            return
        for call, item in zip(request.calls, request.items or (), strict=False):
            if "result" in item:
                self._memory.remember(call, item["result"])
        if request.items is not None and refused:
            request.lied = True
            for at, refusal in refused.items():
                request.items[at] = body_of(request.calls[at], refusal)

    # lies of each kind

    def _change(self, lie: AnswerLie, request: Request, method: str | None) -> bool:
        """Change the result of one call, the first by chance of which that lie can be told."""
        items = request.items or []
        for at in request.chance.sample(range(len(items)), len(items)):
            call = request.calls[at]
            if method not in {None, call.method} or not lie.fits(call) or "result" not in items[at]:
                continue
            if at in request.changed:
                continue  # two lies about one answer may come to the truth
            seed = request.chance.randrange(2**32)
            if self._say(lie, request, at, seed):
                if self.rate and request.chance.random() < _REPEATED:
                    self._spells[call.question] = Spell(lie, seed, request.chance.randint(1, _REPEATS))
                return True
        return False

    def _say(self, lie: AnswerLie, request: Request, at: int, seed: int) -> bool:
        assert request.items is not None
        call, truth = request.calls[at], request.items[at]["result"]
        said = lie.change(truth, call, random.Random(seed), self._memory)
        if said is TRUTH:
            return False
        request.items[at] = body_of(call, said)
        request.changed.add(at)
        request.lied = True
        self.told.append(Told(request.number, lie.name, call.method, describe_change(truth, said)))
        return True

    def _repeat(self, request: Request) -> None:
        """Tell lies again that were told of the same questions."""
        for at, call in enumerate(request.calls):
            spell = self._spells.get(call.question)
            if spell is None or self.honest or not request.items or request.lied:
                continue
            spell.left -= 1
            if spell.left <= 0:
                del self._spells[call.question]
            if "result" in request.items[at] and isinstance(spell.lie, AnswerLie):
                self._say(spell.lie, request, at, spell.seed)

    async def _look(self, lie: ViewLie, request: Request) -> bool:
        """Answer as another node would, and perhaps in the next requests, too."""
        view, self._view = self._view, None
        if view is None or view.lie is not lie:
            again = self.rate > 0 and request.chance.random() < _REPEATED
            view = Spell(lie, request.chance.randrange(2**32), request.chance.randint(1, _REPEATS) if again else 0)
        chance, replaced = random.Random(view.seed), self._branches.replaced()
        try:
            results = await lie.look(request.calls, self._upstream.asks, chance, replaced)
        except (OSError, ValueError):
            return False
        if results is not None and view.left > 0:
            self._view = replace(view, left=view.left - 1)
        if results is None:
            return False
        request.items = [body_of(call, result) for call, result in zip(request.calls, results, strict=True)]
        request.lied = True
        self.told.append(Told(request.number, lie.name, request.methods))
        return True

    def _misshape(self, lie: BodyLie, request: Request) -> bool:
        if not request.items or lie.batches != (len(request.items) > 1):
            return False
        instead = lie.change(request.items, request.chance)
        if instead is TRUTH:
            return False
        request.instead, request.lied = instead, True
        self.told.append(Told(request.number, lie.name, request.methods))
        return True

    async def _befall(self, lie: WireLie, request: Request) -> Answer:
        """Lose, delay or replace the answer, whatever it is."""
        self.told.append(Told(request.number, lie.name, request.methods))
        await anyio.sleep(lie.late_s * request.chance.random())
        body = b""
        truth: Answer | None = None
        if lie.acts:
            await self._learn(request)
            truth = request.answer()
            body = truth.body
        await anyio.sleep(lie.delay_s * request.chance.random())
        if lie.answer is not None:
            return lie.answer(body, request.chance)
        return DROP if truth is None else truth

    async def _record(self) -> None:
        """Take down the first node's blocks, as long as nothing has replaced them, if a view may need them."""
        due = [script.lie for script in self._scripts if script.left > 0]
        if not any(isinstance(lie, ViewLie) and lie.of_replaced for lie in (*due, *(self._lies if self.rate else ()))):
            return
        try:
            await self._branches.record(self._upstream.asks[0])
        except (OSError, ValueError):
            return  # the node is down, or is no Ethereum node


@asynccontextmanager
async def open_lying_node(
    node_urls: str | Sequence[str],
    *,
    seed: int,
    rate: float = 0.1,
    rates: Mapping[str, float] = MappingProxyType({}),
    lies: Iterable[Lie] = LIES.values(),
    limits: Limits = NO_LIMITS,
) -> AsyncIterator[LyingNode]:
    """Serve a lying node on a free port for the block, in front of one or two real nodes.

    No lie lasts: each is about one request, or about one question for a few times. An engine that acts on proof alone
    therefore does no harm meanwhile, and ends with everything settled once the node is `honest`.

    Args:
        node_urls: the real node, or two with different heads. Transactions go to the first.
        seed: decides which lies are told, and how.
        rate: how many of the requests have a lie, from 0 to 1. At 0 only those are told that `LyingNode.tell` orders,
            and everything else passes byte by byte.
        rates: for requests with a call of these methods, if it is higher; most requests of an engine are looks at the
            newest block, and those that decide about money are few.
        lies: those told at random.
        limits: what the provider allows.

    Example:
        ```
        async with open_lying_node("http://127.0.0.1:8545", seed=7) as node:
            ...                       # the engine under test works on node.url
            node.honest = True
            ...                       # everything must be settled now; show node.report() if it is not
        ```
    """
    urls = [node_urls] if isinstance(node_urls, str) else list(node_urls)
    if len(urls) not in {1, 2}:
        raise ValueError(f"a lying node stands in front of one or two nodes, not {len(urls)}")
    import httpx2  # noqa: PLC0415  only who opens a node pays for it

    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=_UPSTREAM_S) as client:
        node = LyingNode(Upstream(client, urls), seed=seed, rate=rate, rates=rates, lies=lies, limits=limits)
        async with open_server(node.respond) as url:
            node.url = url
            yield node
