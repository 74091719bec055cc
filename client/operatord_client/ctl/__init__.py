# SPDX-License-Identifier: MIT
"""The rooms behind `operatorctl`.

`parser` says what can be typed, `sessions`, `probes`, `system`, `following` and `watch` do it by way of a
`context`, `render` turns what the daemon said into text, `refusals` turns what went wrong into a sentence and
a code, and `completion` writes scripts for shells. Nothing here imports the client before it is needed.
"""
