"""`python -m audionas` is `audionas`."""

import sys

from audionas.cli import main

sys.exit(main())
