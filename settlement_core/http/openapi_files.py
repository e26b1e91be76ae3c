"""What the operator's API answers that is no JSON: figures as text, and the store as a file."""

from __future__ import annotations

from settlement_core.http.openapi import Schema, content, problems

__all__ = ["describe_files"]


def describe_files() -> Schema:
    """Return the paths."""
    return {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Counters, latencies and what waits, for Prometheus",
                "responses": {
                    "200": {
                        "description": "As of now; what waits in the store may be a few seconds old.",
                        "content": content("text/plain", {"type": "string"}),
                    },
                    **problems(404, 500, 503),
                },
            }
        },
        "/backup": {
            "get": {
                "operationId": "backup",
                "summary": "A consistent copy of the store, if it is in SQLite",
                "responses": {
                    "200": {
                        "description": "A SQLite file, whose books know that they may be older once they are served.",
                        "content": content("application/vnd.sqlite3", {"type": "string", "format": "binary"}),
                    },
                    **problems(400, 404, 500, 503),
                },
            }
        },
    }
