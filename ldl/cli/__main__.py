"""`python -m ldl.cli`, the `ldl` command."""

import sys

from ldl.cli import main

sys.exit(main())
