"""Where the command line reads and changes books: a running server's operator API, or a stopped one's store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

import httpx2

from settlement_core.abc import SharedStore, Store
from settlement_core.cli.client import answers, open_client
from settlement_core.cli.following import Heard, follow
from settlement_core.cli.secrets import without_secrets
from settlement_core.cli.target import Target
from settlement_core.cli.verdicts import audit_stopped
from settlement_core.core.backups import require_restorable
from settlement_core.core.doubts import resume_payments
from settlement_core.http import views
from settlement_core.store_urls import open_store
from settlement_core.values.asked import checked
from settlement_core.values.assets import ASSET
from settlement_core.values.commands import (
    Applied,
    Assign,
    Command,
    Dismiss,
    History,
    Overview,
    Pause,
    Release,
    Resolve,
    Suspense,
    Workers,
)
from settlement_core.values.errors import LocalError, SettlementError
from settlement_core.values.records import AttemptState
from settlement_core.values.sealing import SEAL, refuse_sealed

__all__ = ["Source", "open_source"]

PAGE = 500

UNSERVED = "its server is stopped, and carries this out once it runs: settlement-core serve"

PATIENCE = 30
"""How many times a request is repeated, a second apart, that a server found one too many."""


class Source(Protocol):
    """Books that can be read, and decided upon by a person."""

    def accounts(self, after: str) -> list[dict[str, Any]]:
        """Return the next accounts after an id."""
        ...

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Return the next attempts after one."""
        ...

    def suspense(self, after: str, *, decided: bool) -> list[dict[str, Any]]:
        """Return the next money without an owner after a settlement id; with `decided` also what does not wait."""
        ...

    def workers(self) -> dict[str, Any]:
        """Return who shares the store, and whether it can be shared."""
        ...

    def audit(self) -> dict[str, Any]:
        """Return an audit's report."""
        ...

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> str:
        """Say how much of an attempt moved; return why nothing follows from it yet, "" if it does."""
        ...

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> str:
        """Have a held credit offered again; return why it is not yet, "" if it is."""
        ...

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> str:
        """Say whose money it is; return why it is not credited yet, "" if it is."""
        ...

    def dismiss(self, settlement_id: str, *, reason: str, by: str) -> None:
        """Say that money is not ours."""
        ...

    def dismiss_below(self, below: Decimal, *, reason: str, by: str) -> int:
        """Say so of all that waits of less than an amount; return how many that were."""
        ...

    def pause(self, account_id: str, *, paused: bool, reason: str, by: str) -> dict[str, Any]:
        """Have nothing new begun in an account, or have it go on; return what it was before, if that is known."""
        ...

    def resume_payments(self, *, reason: str, by: str) -> None:
        """Have payments go on after too many in a row were in doubt."""
        ...

    def settle(self, account_id: str) -> None:
        """Have an account try again now."""
        ...

    def back_up(self, path: str) -> int:
        """Make a copy of the store in a new file; return its size in bytes."""
        ...

    def asset(self) -> str:
        """Return the label of what amounts are in, or ""."""
        ...

    def engine(self) -> dict[str, Any]:
        """Return what the engine tells of its ledger."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return the sums over all accounts, what waits, and what is tried again."""
        ...

    def events(self) -> Iterator[Heard]:
        """Yield what happens, as it happens, for ever."""
        ...


@contextmanager
def open_new(path: str) -> Iterator[BinaryIO]:
    """Give a new file, for its owner only; nothing of it is left if the block fails."""
    try:
        file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
    except OSError as problem:
        raise LocalError(f"cannot write a backup to {path}: {problem.strerror}; name a new file") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as problem:
        Path(path).unlink()
        if isinstance(problem, httpx2.TransportError):
            raise LocalError(f"the backup broke off: {problem}; {path} was removed, try again") from None
        raise


@contextmanager
def open_source(target: Target) -> Iterator[Source]:
    """Give the books that a command is about; raises `LocalError` with one sentence if they cannot be had."""
    shown = without_secrets(target.admin_url)
    if target.ask_server:
        with open_client(target.admin_url, target.credentials) as client:
            if target.store is None or answers(client):
                yield _Server(client, shown)
                return
    assert target.store is not None
    try:
        books = open_store(target.store, create=False)
    except LocalError as problem:
        if not target.ask_server:
            raise
        raise LocalError(f"no server answers at {shown}, and {problem}; say --admin-url or --store") from None
    try:
        yield _Stopped(books)
    finally:
        books.close()


class _Stopped:
    """The store of a server that is not running."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _ask(self, command: Command[Any]) -> Any:
        (result,) = self._store.apply([checked(command)])
        if isinstance(result, SettlementError):
            raise result
        return result

    def accounts(self, after: str) -> list[dict[str, Any]]:
        return [views.account_view(account) for account in self._ask(Overview(after=after, limit=PAGE))]

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        wanted = frozenset(AttemptState(state) for state in states)
        start = {} if after is None else {"after": after["id"], "after_account": after["account"]}
        found = self._ask(History(account_id=account, states=wanted, limit=PAGE, **start))
        return [views.attempt_view(attempt) for attempt in found]

    def suspense(self, after: str, *, decided: bool) -> list[dict[str, Any]]:
        return [views.suspense_view(item) for item in self._ask(Suspense(after=after, limit=PAGE, assigned=decided))]

    def workers(self) -> dict[str, Any]:
        partitions: int = getattr(self._store, "partitions", 1)
        shared = isinstance(self._store, SharedStore)
        return views.workers_view(self._ask(Workers()), shared=shared, partitions=partitions)

    def audit(self) -> dict[str, Any]:
        return audit_stopped(self._store)

    def _decide(self, command: Command[Any]) -> str:
        # nobody would ever act on what is decided about books that have moved
        refuse_sealed(self._ask(SEAL))
        self._ask(command)
        return UNSERVED

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> str:
        return self._decide(
            Resolve(
                account_id=attempt["account"],
                attempt_id=attempt["id"],
                settled=settled,
                reason=reason,
                by=by,
                at=time.time(),
            )
        )

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> str:
        return self._decide(Release(account_id=attempt["account"], attempt_id=attempt["id"], reason=reason, by=by))

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> str:
        told: dict[str, Any] = {"reason": reason, "by": by, "at": time.time()}
        return self._decide(Assign(settlement_id=settlement_id, account_id=account_id, **told))

    def dismiss(self, settlement_id: str, *, reason: str, by: str) -> None:
        self._decide(Dismiss(settlement_id=settlement_id, reason=reason, by=by, at=time.time()))

    def dismiss_below(self, below: Decimal, *, reason: str, by: str) -> int:
        refuse_sealed(self._ask(SEAL))
        done, found = 0, self._ask(Suspense(limit=PAGE))
        while found:
            told: dict[str, Any] = {"reason": reason, "by": by, "at": time.time()}
            chosen = [Dismiss(settlement_id=item.settlement_id, **told) for item in found if item.amount < below]
            results = self._store.apply(chosen)
            done += sum(isinstance(result, Applied) and result.changed for result in results)
            found = self._ask(Suspense(after=found[-1].settlement_id, limit=PAGE))
        return done

    def pause(self, account_id: str, *, paused: bool, reason: str, by: str) -> dict[str, Any]:
        before = self._ask(Overview(account_id=account_id))
        self._decide(Pause(account_id=account_id, paused=paused, reason=reason, by=by, at=time.time()))
        was_paused = any(account.paused for account in before)
        return {"was_paused": was_paused, "was_halted": [], "may_halt_elsewhere": False, "waits_for": UNSERVED}

    def resume_payments(self, *, reason: str, by: str) -> None:
        refuse_sealed(self._ask(SEAL))
        self._store.apply([resume_payments(reason=reason, by=by)])

    def settle(self, account_id: str) -> None:
        raise LocalError(f"no server runs that could settle with account {account_id!r}; start one, or say --admin-url")

    def back_up(self, path: str) -> int:
        return require_restorable(self._store).back_up(path).stat().st_size

    def asset(self) -> str:
        return str(self._ask(ASSET) or "")

    def engine(self) -> dict[str, Any]:
        raise LocalError("only a running engine can tell; start its server, or say --admin-url")

    def summary(self) -> dict[str, Any]:
        raise LocalError("only a running server can be watched; start it, or say --admin-url")

    def events(self) -> Iterator[Heard]:
        raise LocalError("only a running server can be watched; start it, or say --admin-url")


class _Server:
    """A running server."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self._url = url

    def _request(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self._client.request(method, path, **content)
            for _ in range(PATIENCE):
                if answer.status_code != httpx2.codes.TOO_MANY_REQUESTS:
                    break
                time.sleep(1)
                answer = self._client.request(method, path, **content)
            said = answer.json()
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
            raise LocalError(f"no server answers at {self._url}: {problem}") from None
        except ValueError:
            raise LocalError(f"what answers at {self._url} is no settlement engine's operator API") from None
        if not answer.is_success:
            detail = str(said.get("detail", said)) if isinstance(said, dict) else str(said)
            if answer.status_code == httpx2.codes.UNAUTHORIZED:
                detail += "; set SETTLEMENT_ADMIN_TOKEN, or SETTLEMENT_ADMIN_TOKEN_FILE to the file that holds it"
            raise LocalError(detail)
        return said

    def accounts(self, after: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._request("GET", "/accounts", params={"after": after, "limit": PAGE})
        return found

    def attempts(
        self, account: str | None, states: tuple[str, ...], after: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        chosen = {"account": account, "limit": PAGE, "state": list(states)}
        if after is not None:
            chosen |= {"after": after["id"], "after_account": after["account"]}
        params = {name: value for name, value in chosen.items() if value is not None}
        found: list[dict[str, Any]] = self._request("GET", "/attempts", params=params)
        return found

    def suspense(self, after: str, *, decided: bool) -> list[dict[str, Any]]:
        params = {"after": after, "limit": PAGE, "decided": str(decided).lower()}
        found: list[dict[str, Any]] = self._request("GET", "/suspense", params=params)
        return found

    def workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/workers")
        return found

    def audit(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/audit")
        return found | {"audited": f"the server at {self._url}, store {found['store']}"}

    def back_up(self, path: str) -> int:
        with open_new(path) as file, self._client.stream("GET", "/backup", timeout=None) as answer:
            if not answer.is_success:
                answer.read()
                raise LocalError(str(answer.json().get("detail", answer.text)))
            for chunk in answer.iter_bytes():
                file.write(chunk)
            size = file.tell()
            if size != int(answer.headers["content-length"]):
                raise LocalError(f"the backup broke off after {size} bytes; {path} was removed, try again")
        return size

    def resolve(self, attempt: dict[str, Any], *, settled: Decimal, reason: str, by: str) -> str:
        path = f"/accounts/{attempt['account']}/attempts/{attempt['id']}/resolve"
        return self._decide(path, {"settled": f"{settled:f}", "reason": reason, "by": by})

    def release(self, attempt: dict[str, Any], *, reason: str, by: str) -> str:
        path = f"/accounts/{attempt['account']}/attempts/{attempt['id']}/release"
        return self._decide(path, {"reason": reason, "by": by})

    def assign(self, settlement_id: str, account_id: str, *, reason: str, by: str) -> str:
        content = {"settlement_id": settlement_id, "account_id": account_id, "reason": reason, "by": by}
        return self._decide("/suspense/assign", content)

    def _decide(self, path: str, content: dict[str, str]) -> str:
        return str(self._request("POST", path, json=content)["waits_for"])

    def dismiss(self, settlement_id: str, *, reason: str, by: str) -> None:
        content = {"settlement_id": settlement_id, "reason": reason, "by": by}
        self._request("POST", "/suspense/dismiss", json=content)

    def dismiss_below(self, below: Decimal, *, reason: str, by: str) -> int:
        content = {"below": f"{below:f}", "reason": reason, "by": by}
        done = self._request("POST", "/suspense/dismiss", json=content)
        number: int = done["dismissed"]
        while done["after"] is not None:
            done = self._request("POST", "/suspense/dismiss", json=content | {"after": done["after"]})
            number += done["dismissed"]
        return number

    def pause(self, account_id: str, *, paused: bool, reason: str, by: str) -> dict[str, Any]:
        path = f"/accounts/{quote(account_id, safe='')}/{'pause' if paused else 'resume'}"
        before: dict[str, Any] = self._request("POST", path, json={"reason": reason, "by": by})
        return before

    def resume_payments(self, *, reason: str, by: str) -> None:
        self._request("POST", "/engine/resume", json={"reason": reason, "by": by})

    def settle(self, account_id: str) -> None:
        self._request("POST", f"/accounts/{quote(account_id, safe='')}/settle")

    def asset(self) -> str:
        # a server of an earlier version has none
        return str(self._request("GET", "/statistics").get("asset", ""))

    def engine(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/engine")
        return found

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", "/summary")
        return found

    def events(self) -> Iterator[Heard]:
        return follow(self._client, self._url)
