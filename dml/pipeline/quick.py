"""Imported first by what reads or writes notebooks, so that their readers load sooner.

Without this, each such process builds a grammar of web addresses for two seconds: a part of jsonschema that checks
addresses, which no notebook has.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
