"""What an engine reports of its ledger, asked within a deadline, and its alarm as events."""

from __future__ import annotations

from typing import Any, Final

import anyio

from settlement_core.core.context import Context
from settlement_core.core.effects import Failed, perform_within
from settlement_core.values.events import EngineAlarmed, EngineCalm, EngineMisbehaved
from settlement_core.values.json_text import decode_json, encode_json

__all__ = ["ALARM_S", "ask_status", "watch_alarm"]

ALARM_S: Final = 15.0
"""How often an engine is asked whether it has an alarm."""


async def ask_status(context: Context) -> dict[str, Any]:
    """Return what the engine reports; how it failed to, under "error"; nothing if it reports nothing.

    While payments are stopped that is an "alarm", beside the engine's own.
    """
    told = await _ask(context)
    stopped = context.doubts.alarm
    return told | {"alarm": "; ".join(filter(None, (stopped, str(told.get("alarm") or ""))))} if stopped else told


async def _ask(context: Context) -> dict[str, Any]:
    tell = context.engine.status
    if tell is None:
        return {}
    answer: Any = await perform_within(
        context.config.message_deadline_s,
        tell,
        misbehaved=lambda reason: context.observe(EngineMisbehaved(account_id="", doing="status", reason=reason)),
    )
    if isinstance(answer, Failed):
        return {"error": answer.reason}
    try:
        told: Any = decode_json(encode_json(answer))
    except ValueError as problem:
        return {"error": f"its answer is unusable: {problem}"}
    return told if isinstance(told, dict) else {"error": f"it told {type(told).__name__}, not a JSON object"}


async def watch_alarm(context: Context) -> None:
    """Emit an event when the engine's alarm begins, changes or ends; never returns."""
    latest = ""
    while True:
        await anyio.sleep(ALARM_S)
        status = await _ask(context)
        if "error" in status:
            continue  # what the engine cannot report now may still be so
        alarm = str(status.get("alarm") or "")
        if alarm != latest:
            context.observe(EngineAlarmed(alarm=alarm) if alarm else EngineCalm(alarm=latest))
            latest = alarm
