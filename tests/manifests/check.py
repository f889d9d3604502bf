"""Checks manifests of Kubernetes itself against its schemas, of the version that is given.

    python3 check.py 1.37 < manifests.json

Reads a JSON array of manifests, and writes one of what is wrong with each: a text, or null. A field that the schemas do not know is a fault.
"""
import json
import sys

import kubernetes_validate


def fault(manifest):
    try:
        kubernetes_validate.validate(manifest, sys.argv[1], strict=True)
    except kubernetes_validate.ValidationError as error:
        return "".join(f"/{part}" for part in error.absolute_path) + f": {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return error.message


json.dump([fault(manifest) for manifest in json.load(sys.stdin)], sys.stdout)
