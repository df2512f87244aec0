"""`python -m trt_lane` is `trt-lane`."""

import sys

from trt_lane.cli import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())
