"""Beside the floors: test tools for engines, stores and connectors. Nothing above imports this."""
