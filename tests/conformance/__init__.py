"""The examination of any engine, tried on ours and on the original."""
