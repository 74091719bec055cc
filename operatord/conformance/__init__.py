# SPDX-License-Identifier: MIT
"""Whether an image keeps the stage contract (protocol/PROTOCOL.md, sections 7 and 8).

`trials` has what is done with a stage, `seen` what is written down of that, `judging` what follows from it,
and `checks` is the table of all checks.
"""
