"""A run from end to end: jobs, notebooks, web pages, figures and texts, and the manifest that comes last."""

import sys

# Without this, each process that reads or writes a notebook builds a grammar of web addresses for two seconds: a part
# of jsonschema that checks addresses, which no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
