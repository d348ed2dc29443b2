"""Pure functions on documents: measure, decide, edit. Nothing here imports Beam."""
