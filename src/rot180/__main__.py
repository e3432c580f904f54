"""python -m rot180"""

import sys

from rot180.cli import main

sys.exit(main())
