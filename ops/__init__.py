"""Run, look, repair: the command line, the topology, the supervisor and the audit of one instance.

Nothing imports this package; it may import every other. Workers are started as processes, never called.
"""
