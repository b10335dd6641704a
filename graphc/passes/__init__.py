"""Graph rewrites, one file each, named after what they do. graphc/pipeline.py says in which order they run; fuse_*.py are found."""
