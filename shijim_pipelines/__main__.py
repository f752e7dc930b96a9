"""The command `shijim`, also `python -m shijim_pipelines`. Not the verbs: those are in `cli.py`.

A base install is the live host and has none of the batch half's packages: that is said in one line.
"""

import sys

from rust_indicators import KernelsMissing

EXIT_FAILED = 4
EXTRAS = {"great_expectations": "pipelines", "hftbacktest": "backtest", "numba": "backtest",
          "clickhouse_connect": "clickhouse"}  # fmt: skip


def main() -> int:
    """Runs one verb; returns the exit code."""
    try:
        from shijim_pipelines.cli import main as run

        return run()
    except KernelsMissing as error:
        print(f"shijim: {error}", file=sys.stderr)
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("shijim"):
            raise
        print(
            f"shijim: the package {error.name} is missing; the batch half needs an extra: "
            f"pip install 'shijim[{EXTRAS.get(error.name.split('.')[0], 'lake')}]'",
            file=sys.stderr,
        )
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
