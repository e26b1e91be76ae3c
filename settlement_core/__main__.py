"""`python -m settlement_core` is `settlement-core`."""

from settlement_core.cli import main

if __name__ == "__main__":
    main(prog_name="settlement-core")
