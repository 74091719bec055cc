# SPDX-License-Identifier: MIT
"""Where stages run. `base` is the interface; `docker` and `process` are the engines."""
