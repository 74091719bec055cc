# SPDX-License-Identifier: MIT
"""Pictures of a stream: the formats of their pixels, and the lines as which players are sent them."""
