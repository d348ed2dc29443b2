"""The Beam graph: sources, stages as composites, sinks, the audit, the command line."""
