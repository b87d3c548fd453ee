"""`python -m tools.demo.train text|vision [--out DIR]`: train a demo model on the CPU."""

import argparse
from pathlib import Path

import torch

from tools.demo.facts import CHECKPOINTS, TEXT_MODEL, VISION_MODEL


def main() -> None:
    """Train the named model."""
    parser = argparse.ArgumentParser(description="Train a demo model.")
    parser.add_argument("model", choices=("text", "vision"))
    parser.add_argument("--out", type=Path, help="where to write the checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.model == "text":
        from tools.demo import text

        text.train(args.out or CHECKPOINTS / TEXT_MODEL)
    else:
        from tools.demo import vision

        vision.train(args.out or CHECKPOINTS / VISION_MODEL)


if __name__ == "__main__":
    main()
