#!/usr/bin/env python3
"""A software bill of materials of the built daemon, as CycloneDX 1.5 JSON.

What is compiled in comes from Package.resolved, what is linked from the binary itself and Debian's package data.

  .ci/sbom.py .build/release/rodpod > rodpod.cdx.json
  .ci/sbom.py --updates .build/release/rodpod   which linked packages Debian has a newer version of (after apt-get update)
"""
import json, pathlib, subprocess, sys, urllib.parse, uuid


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def swift_packages(root):
    for pin in json.loads((root / "Package.resolved").read_text())["pins"]:
        place = pin["location"].removeprefix("https://").removesuffix(".git")
        version = pin["state"].get("version") or pin["state"]["revision"]
        yield {
            "type": "library", "name": place.split("/")[-1], "group": "/".join(place.split("/")[:-1]), "version": version,
            "purl": f"pkg:swift/{place}@{version}",
            "externalReferences": [{"type": "vcs", "url": pin["location"]}],
            "properties": [{"name": "swift:revision", "value": pin["state"]["revision"]}],
        }


def linked_packages(binary):
    """Debian's packages of the shared libraries that the binary loads: name, version, architecture."""
    found = set()
    for line in output("ldd", binary).splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if not path or "/swift/linux/" in path:
            continue
        for name in {path, str(pathlib.Path(path).resolve()), path.removeprefix("/usr"), "/usr" + path}:
            owner = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
            if owner.returncode == 0:
                found.add(owner.stdout.split(": ")[0].split(",")[0])
                break
        else:
            print(f"{path} belongs to no package", file=sys.stderr)
    for package in sorted(found):
        name, version, architecture = output("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}", package).split("\t")
        yield name, version, architecture


def swift_runtime():
    line = output("swift", "--version").splitlines()[0]
    version = line.split("Swift version ")[1].split()[0]
    return {"type": "library", "name": "swift-runtime", "version": version, "purl": f"pkg:github/swiftlang/swift@swift-{version}-RELEASE"}


def bill(root, binary):
    components = list(swift_packages(root)) + [swift_runtime()] + [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:deb/debian/{name}@{urllib.parse.quote(version)}?arch={architecture}&distro=debian-12"}
        for name, version, architecture in linked_packages(binary)
    ]
    version = output(binary, "--version").strip()
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))}",
        "metadata": {"component": {"type": "application", "name": "rodpod", "version": version, "bom-ref": "rodpod",
                                   "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": [dict(component, **{"bom-ref": component["purl"]}) for component in components],
    }


def updates(binary):
    """Whether Debian has a newer version of what is linked."""
    newer = []
    for name, version, _ in linked_packages(binary):
        candidate = next((line.split()[1] for line in output("apt-cache", "policy", name).splitlines() if "Candidate:" in line), version)
        if candidate != version:
            newer.append(f"{name}: {version} is installed, {candidate} is there")
    print("\n".join(newer) or "Debian has nothing newer of what is linked")
    return 1 if newer else 0


def main(arguments):
    root = pathlib.Path(__file__).resolve().parent.parent
    if arguments[:1] == ["--updates"]:
        return updates(arguments[1])
    json.dump(bill(root, arguments[0]), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
