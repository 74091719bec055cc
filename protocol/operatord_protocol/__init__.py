# SPDX-License-Identifier: MIT
"""The control protocol and the stream format, without I/O: what daemon and client both speak.

`framing` makes lines of bytes, `codec` requests of lines, `messages` and `methods` say what may be in
them, `checking` what is wrong with it, `errors` what else may go wrong, and `stream` reads what flows at a
location. PROTOCOL.md is the text.
"""
