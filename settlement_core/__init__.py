"""A framework for Interledger settlement engines (RFC 0038) that neither loses nor doubles money."""
