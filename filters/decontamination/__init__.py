"""Decontamination: documents that contain items of evaluation sets, found by n-grams of words."""
