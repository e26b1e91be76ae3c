"""What schemathesis cannot know of our API: that engines' messages are JSON, and how RFC 38 writes a scale."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

messages = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)
schemathesis.openapi.media_type("application/octet-stream", messages.map(lambda message: json.dumps(message).encode()))


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Write whole numbers whole: a schema takes 3.0 for an integer, which no connector sends and we refuse."""
    if isinstance(body, dict) and isinstance(body.get("scale"), float) and body["scale"].is_integer():
        return body | {"scale": int(body["scale"])}
    return body
