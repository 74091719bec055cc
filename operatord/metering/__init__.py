# SPDX-License-Identifier: MIT
"""What the daemon counts about itself: cheap sums that are added to where something happens."""
