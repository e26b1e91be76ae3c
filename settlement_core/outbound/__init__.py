"""Below floor 3: the HTTP requests of this process, all with the same bounds.

    urls        one check of URLs, and what of them may be shown
    trust       whose certificates are accepted, and why one was not
    client      one request, one reply: a deadline for the whole call, a bounded raw body
    blocking    the same bounds for the command line's client

Nothing here is repeated, redirected, unpacked or sent to a proxy that was not named.
"""

from __future__ import annotations

__all__: list[str] = []
