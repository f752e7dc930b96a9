"""`python -m shijim_pipelines` is `shijim`."""

import sys

from shijim_pipelines.cli import main

sys.exit(main())
