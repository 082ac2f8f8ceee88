"""Captions and tags of tracks."""

from pipeline.captions.chain import Caption, CaptionChain, parse_chain, resolve_caption
from pipeline.captions.measured import MeasuredDescriber, Measurements
from pipeline.captions.tags import HeaderFacts, Tags, probe, read_tags

__all__ = [
    "Caption",
    "CaptionChain",
    "HeaderFacts",
    "MeasuredDescriber",
    "Measurements",
    "Tags",
    "parse_chain",
    "probe",
    "read_tags",
    "resolve_caption",
]
