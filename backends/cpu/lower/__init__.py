"""From groups of nodes to steps: `core` holds the machinery, the other modules one family of operators each."""
