"""Trains latent action models on the pictures of a selection."""

from pipelines.lam.train import Trained as Trained
from pipelines.lam.train import train_lam as train_lam
