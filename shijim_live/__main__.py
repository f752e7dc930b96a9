"""The command `shijim-live`, also `python -m shijim_live`. Not the verbs: those are in `cli.py`."""

import sys

from rust_indicators import KernelsMissing

EXIT_FAILED = 4


def main() -> int:
    """Runs one verb; returns the exit code."""
    try:
        from shijim_live.cli import main as run
    except KernelsMissing as error:
        print(f"shijim-live: {error}", file=sys.stderr)
        return EXIT_FAILED
    return run()


if __name__ == "__main__":
    sys.exit(main())
