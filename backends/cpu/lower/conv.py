def form(node, target): return None
def halo(node, target): return (0, 0)
