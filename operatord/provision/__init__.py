# SPDX-License-Identifier: MIT
"""What a session has on an engine: made step by step, proven to deliver, removed."""
