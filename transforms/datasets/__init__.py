"""The four TLC datasets by name."""

from transforms.dataset import Dataset
from transforms.datasets.fhv import FHV
from transforms.datasets.fhvhv import FHVHV
from transforms.datasets.green import GREEN
from transforms.datasets.yellow import YELLOW

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (YELLOW, GREEN, FHV, FHVHV)}

__all__ = ["DATASETS", "FHV", "FHVHV", "GREEN", "YELLOW"]
