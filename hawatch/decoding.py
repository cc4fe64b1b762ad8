"""What decoding bytes of others may raise: more than the decoder's own error.

A text inside of a message may be no UTF-8, and a message may be nested deeper than the interpreter's stack; msgspec
raises Python's own errors for these. Whoever decodes what came from outside of the process, or from a file that
somebody may have edited, catches all of them.
"""

from __future__ import annotations

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
