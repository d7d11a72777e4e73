"""Findings: from the tables of a run to what they show, with no network at hand."""
