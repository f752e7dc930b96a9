"""`python -m shijim_live` is `shijim-live`."""

import sys

from shijim_live.cli import main

sys.exit(main())
