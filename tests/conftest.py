"""What all tests share: only they are followed by coverage, not the servers and commands that they start."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the process that starts these must hand it on to them
    os.environ.pop("COVERAGE_PROCESS_START", None)
