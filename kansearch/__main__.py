"""The command line's front door: one clear line for whatever a person can mend, a traceback for our own bugs."""

from __future__ import annotations

import gc
import os
import sys

from kansearch.errors import KansearchError


def main() -> None:
    """Run the command line; ends the process with the exit code that the errors' family gives."""
    try:
        from kansearch.cli.app import app

        app()
    except KansearchError as error:
        print(f"kansearch: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        # Asked only now: the storage's room imports Optuna, which `--help` must not.
        from kansearch.storage.url import as_storage_error

        known = as_storage_error(error)
        if known is None:
            raise
        print(f"kansearch: {known}", file=sys.stderr)
        sys.exit(known.exit_code)
    finally:
        # Else Python searches all that was read for garbage while it ends, which takes longer than many a command.
        gc.freeze()


if __name__ == "__main__":
    main()
