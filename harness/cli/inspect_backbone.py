"""``harness inspect BACKBONE``, and ``harness inspect SPEC --backbone``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.runs.storage import readable_bytes

if TYPE_CHECKING:
    from harness.spec.models_model import Backbone
    from harness.worker.inspect_backbone import BackboneFacts


def run_backbone(args: argparse.Namespace) -> int:
    """Describes the backbone that ``args.data`` names, or that of the spec there.

    Raises:
        UsageError: options that are of data are given.
    """
    from harness.cli.common import is_spec, print_json
    from harness.errors import UsageError
    from harness.spec import load_spec, load_user_config
    from harness.worker.inspect_backbone import inspect_backbone

    _refuse_options_of_data(args)
    spec = None
    if is_spec(Path(args.data)):
        spec = load_spec(args.data, overrides=args.overrides).spec
        _refuse_with_spec(args, spec.backbone.handle)
    elif any(not one.startswith("backbone.") for one in args.overrides):
        raise UsageError(
            "of a handle only fields of the backbone can be set",
            got=", ".join(args.overrides),
            allowed="-o backbone.FIELD=VALUE",
            action="leave out the others, or name a spec with --backbone",
        )
    wanted = _of_handle(args.data, args.overrides) if spec is None else spec.backbone
    trust = load_user_config().trust
    found = inspect_backbone(wanted, trust, _say, args.image_size, spec)
    if args.json:
        print_json(found.to_json())
    else:
        print("\n".join(lines_of(found)))
    return 0


def _refuse_with_spec(args: argparse.Namespace, handle: str) -> None:
    from harness.errors import UsageError

    if args.image_size is not None:
        raise UsageError(
            "a spec says itself how large its pictures are",
            got=f"--image-size {args.image_size}",
            action=f"set it with -o data.image_size={args.image_size}",
        )
    if handle.startswith("plugin:"):
        raise UsageError(
            "what a plug-in's backbone is stands in its own code",
            got=f"backbone.handle: {handle}",
            allowed="keras:NAME, a Hub address, or the folder of a SavedModel",
        )


def _of_handle(handle: str, overrides: list[str]) -> Backbone:
    """As a spec with nothing but this backbone would have it."""
    from harness.spec import load_spec

    # What a preprocessor is before are texts; of the others the task says nothing.
    of_texts = any(one.startswith("backbone.preprocessor") for one in overrides)
    least = {
        "harness_spec": 1,
        "task": "text_classification" if of_texts else "image_classification",
        "name": "inspect",
        "backbone": {"handle": handle},
        "data": {"train": "."},
    }
    return load_spec(least, overrides=overrides).spec.backbone


def _refuse_options_of_data(args: argparse.Namespace) -> None:
    from harness.errors import UsageError

    given = {
        "--sample": args.sample is not None,
        "--all": args.all,
        "--augment": args.augment is not None,
        "--copies": args.copies is not None,
        "--show-sensitive": args.show_sensitive,
        "--seed": args.seed is not None,
        "--slurm": args.slurm,
    }
    asked = [name for name, is_given in given.items() if is_given]
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} {'is' if len(asked) == 1 else 'are'} of data",
            got=f"{args.data}, a backbone",
            action="leave out what is of data",
        )


def lines_of(found: BackboneFacts) -> list[str]:
    """The whole of it, line by line."""
    share = f"{found.trainable_parameters:,} of {found.parameters:,}"
    cost = f"{found.seconds * 1000:.3g} ms each on this processor, in a batch of 8"
    if found.flops is not None:
        cost = f"{found.flops / 1e9:.3g} billion operations each, {cost}"
    lines = [
        found.handle,
        f"digest      {found.digest or 'none: random weights are saved with the run'}",
        f"takes       {' or '.join(found.takes)}; tried on {found.tried}",
        f"gives       {found.gives}",
        f"parameters  {share} can be trained, {readable_bytes(found.bytes)}",
        f"variables   {found.trainable_variables:,} of {found.variables:,} can be trained",
        f"cost        {cost}",
    ]
    if found.preprocessor is not None:
        lines[2:2] = [
            f"before      {found.preprocessor}, of digest {found.preprocessor_digest}",
            f"tokens      {found.tokens}",
        ]
    if found.pixels is not None:
        lines.insert(3, f"pixels      {found.pixels}")
    blocks = [block for block in found.blocks if block.trainable]
    lines.append(f"blocks      {len(blocks)} that can be trained, from the input to the head")
    total = sum(block.trainable for block in blocks)
    left = total
    width = max((len(block.name) for block in blocks), default=0)
    for at, block in enumerate(blocks):
        part = f"{left / total:.0%}"
        lines.append(
            f"  last:{len(blocks) - at:<4}{part:>5}  {block.name:<{width}}  "
            f"{block.trainable:>12,} in {block.variables} variables"
        )
        left -= block.trainable
    return lines


def _say(text: str) -> None:
    print(text, file=sys.stderr)
