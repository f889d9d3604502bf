// Checks manifests of the Prometheus operator and of KEDA against those projects' own types.
//
//     npm ci && node check.mjs < manifests.json
//
// Reads a JSON array of manifests, and writes one of what is wrong with each: a text, or null. The schemas let a field pass that they do
// not know, as a cluster does, which drops it. Here it is a fault: a field is known if the schema looks at it.
import { readFileSync } from "node:fs";

const packages = {
  "keda.sh": "@kubernetes-models/keda/keda.sh",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator/monitoring.coreos.com",
};

const manifests = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await Promise.all(manifests.map(fault))));

async function fault(manifest) {
  const [group, version] = manifest.apiVersion.split("/");
  const Model = (await import(`${packages[group]}/${version}`))[manifest.kind];
  if (Model?.kind !== manifest.kind) {
    return `${manifest.apiVersion} has no kind ${manifest.kind}`;
  }
  const lookedAt = new WeakMap();
  try {
    // Of the manifest itself: a model is a copy of it.
    Model.prototype.validate.call(watched(manifest, lookedAt));
  } catch (error) {
    return error.message;
  }
  const unknown = [...notLookedAt(manifest, lookedAt, "")];
  return unknown.length === 0 ? null : `no such field: ${unknown.join(", ")}`;
}

// The same value, of which is noted what is read.
function watched(value, lookedAt) {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  const fields = lookedAt.get(value) ?? new Set();
  lookedAt.set(value, fields);
  return new Proxy(value, {
    get(target, field) {
      fields.add(field);
      return watched(target[field], lookedAt);
    },
  });
}

function* notLookedAt(value, lookedAt, path) {
  for (const [field, child] of Object.entries(value)) {
    const at = `${path}/${field}`;
    if (!lookedAt.get(value)?.has(field)) {
      yield at;
    } else if (typeof child === "object" && child !== null) {
      yield* notLookedAt(child, lookedAt, at);
    }
  }
}
