"""The file: a template, a style sheet, scripts, and the data, all in one."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html import escape
from importlib import resources
from string import Template
from typing import Any

from graphc.draw.text import as_xml

LIBRARIES = ("d3.min.js", "plot.min.js", "dagre.min.js")  # of web/vendor
SCRIPTS = ("table.js", "folding.js", "graph.js", "details.js", "plots.js", "page.js")


def document(data: dict[str, Any]) -> str:
    """An HTML document. Whatever text `data` holds stays text: it stands in an element that no browser runs, scripts put it into the
    page as text, and of scripts only those run whose digests the document's policy has."""
    web = resources.files(__package__) / "web"
    libraries = [(web / "vendor" / name).read_text("utf-8") for name in LIBRARIES]
    own = "\n".join((web / name).read_text("utf-8") for name in SCRIPTS)
    scripts = [*libraries, f'"use strict";\n(() => {{\n{own}\n}})();']
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return Template((web / "page.html").read_text("utf-8")).substitute(
        policy=f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:",
        title=escape(as_xml(str(data["title"]))),
        style=(web / "page.css").read_text("utf-8"),
        data=_json(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(data: Any) -> str:
    """JSON that ends no element of HTML: '<', '>' and '&' are written by their numbers."""
    text = json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return re.sub("[<>&]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _finite(data: Any) -> Any:
    """JSON has no infinity, and some numbers of models are none."""
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
