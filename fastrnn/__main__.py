"""`python -m fastrnn` is the command `fastrnn`."""

import sys

from fastrnn.cli import main

sys.exit(main())
