"""Graph rewrites, one file each, named after what they do. `graphc.pipeline` says in which order they run."""
