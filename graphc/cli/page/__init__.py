"""A report on a compiled model as one HTML file that needs nothing else: no server, no network.

outline.py makes a tree of the graph, graph.py, tables.py and content.py plain data of all that is told, document.py the file.
What draws it in the browser lies in web/, the libraries that it uses in web/vendor/.
"""

from __future__ import annotations

from graphc.cli.page.content import Findings, content
from graphc.cli.page.document import document

__all__ = ["Findings", "content", "document"]
