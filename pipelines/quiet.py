"""Keep Beam's import from writing warnings about extras that we do not use."""

import logging

logging.basicConfig(level=logging.ERROR)
logging.getLogger("apache_beam").setLevel(logging.ERROR)
