"""What is computed on: networks with their data, a file for each kind, and the user's own."""

from benchmarks.problems import (
    deepobs,
    digits_networks,
    language_model,
    logistic,
    mlp_linear,
    resnets,
    scaled_cnn,
    transformer,
    vgg,
    vision_transformer,
    wide_resnet,
)
from benchmarks.problems.problem import Problem
from benchmarks.records.registry import Registry

PROBLEMS: Registry[Problem] = Registry(
    "problem",
    [
        *digits_networks.PROBLEMS,
        *deepobs.PROBLEMS,
        *resnets.PROBLEMS,
        wide_resnet.PROBLEM,
        vgg.PROBLEM,
        transformer.PROBLEM,
        language_model.PROBLEM,
        vision_transformer.PROBLEM,
        mlp_linear.PROBLEM,
        logistic.PROBLEM,
        *scaled_cnn.PROBLEMS,
    ],
)

__all__ = ["PROBLEMS", "Problem"]
