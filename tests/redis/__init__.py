"""Real Redis servers, alone, with sentinels and as a cluster, and a network between that fails on request."""
