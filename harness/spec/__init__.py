"""What the user wrote, typed, documented and checked; sites; the user's settings.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.spec.base import PluginRef as PluginRef
    from harness.spec.config import Trust as Trust
    from harness.spec.config import UserConfig as UserConfig
    from harness.spec.config import load_user_config as load_user_config
    from harness.spec.docs import FieldDoc as FieldDoc
    from harness.spec.docs import field_docs as field_docs
    from harness.spec.dump import dump_spec as dump_spec
    from harness.spec.duration import Duration as Duration
    from harness.spec.existence import check_paths as check_paths
    from harness.spec.load import Resolved as Resolved
    from harness.spec.load import load_spec as load_spec
    from harness.spec.load import spec_from_file_resolved as spec_from_file_resolved
    from harness.spec.models import Spec as Spec
    from harness.spec.models_phases import Phase as Phase
    from harness.spec.models_site import Site as Site
    from harness.spec.plugin_files import LoadedPlugin as LoadedPlugin
    from harness.spec.plugin_files import load_plugins as load_plugins
    from harness.spec.reference import spec_reference_markdown as spec_reference_markdown
    from harness.spec.resume import Difference as Difference
    from harness.spec.resume import differences as differences
    from harness.spec.resume import never_fields as never_fields
    from harness.spec.resume import resume_class as resume_class
    from harness.spec.resume import spec_digest as spec_digest
    from harness.spec.schema import json_schema as json_schema
    from harness.spec.site import load_site as load_site

_HOMES = {
    "check_paths": "existence",
    "FieldDoc": "docs",
    "field_docs": "docs",
    "json_schema": "schema",
    "LoadedPlugin": "plugin_files",
    "load_plugins": "plugin_files",
    "spec_reference_markdown": "reference",
    "PluginRef": "base",
    "Trust": "config",
    "UserConfig": "config",
    "load_user_config": "config",
    "dump_spec": "dump",
    "Duration": "duration",
    "Resolved": "load",
    "load_spec": "load",
    "spec_from_file_resolved": "load",
    "Spec": "models",
    "Phase": "models_phases",
    "Difference": "resume",
    "differences": "resume",
    "never_fields": "resume",
    "resume_class": "resume",
    "spec_digest": "resume",
    "Site": "models_site",
    "load_site": "site",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harness.spec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"harness.spec.{_HOMES[name]}"), name)
