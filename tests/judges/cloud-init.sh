#!/bin/sh
# What the real cloud-init makes of user data. Plain POSIX sh.
#
#   cloud-init.sh --install   fetch what is missing (Debian's packages; asks for root)
#   cloud-init.sh FILE...     judge each; a line of JSON for each on stdout
#
# A line has `file`; `config`, all cloud-configs merged as a server merges them; `files`, what a server writes, each with
# `path`, `text` and `mode`; `parts`, what else is in it, each with `type`, `name` and `text`; `wrong`, what cloud-init
# says against it. Ends with 0 when nothing is wrong with any, with
# 1 when something is, with 77 when cloud-init is not here.
#
# cloud-init is unpacked and never installed: installed, it would have a say in how this machine boots.
set -eu

home=${HA_JUDGES:-${XDG_CACHE_HOME:-$HOME/.cache}/ha-judges}/cloud-init
# Debian's modules are Debian's Python's, whichever other is first on PATH.
python=/usr/bin/python3
modules="python3-configobj python3-jinja2 python3-jsonpatch python3-jsonschema python3-netifaces python3-oauthlib
    python3-requests python3-yaml"

say() { printf 'cloud-init.sh: %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

if [ -d /usr/lib/python3/dist-packages/cloudinit ]; then
    library=/usr/lib/python3/dist-packages
else
    library=$home/usr/lib/python3/dist-packages
fi
works() { PYTHONPATH=$library "$python" -m cloudinit.cmd.main --version >/dev/null 2>&1; }

if [ "${1:-}" = --install ]; then
    works && exit 0
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 $modules >&2
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && apt-get -q download cloud-init >&2)
    dpkg-deb -x "$scratch"/cloud-init_*.deb "$scratch/root"
    rm -rf "$home"
    mkdir -p "${home%/*}"
    mv "$scratch/root" "$home"
    works || { say "fetched, and does not run"; exit 1; }
    exit 0
fi
[ $# -gt 0 ] || { say "name files to judge, or --install"; exit 2; }
works || { say "cloud-init is not here; run: $0 --install"; exit 77; }

PYTHONPATH=$library exec "$python" - "$@" <<'PYTHON'
import contextlib
import io
import json
import sys
import tempfile

from cloudinit import handlers, helpers, safeyaml, user_data
from cloudinit.cmd.main import main
from cloudinit.config.cc_write_files import canonicalize_extraction, extract_contents
from cloudinit.config.schema import get_schema
from cloudinit.handlers.cloud_config import CloudConfigPartHandler


def properties(schema):
    """Names of all settings that any module has."""
    found = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        name = part.get("$ref", "").rsplit("/", 1)[-1]
        found |= properties(schema.get("$defs", {}).get(name, part) if name else part)
    return found


KNOWN = properties(get_schema())


def schema(text):
    """What `cloud-init schema` says against a cloud-config."""
    said = io.StringIO()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                failed = main(["cloud-init", "schema", "--config-file", file.name])
            except SystemExit as end:
                failed = end.code
    said = said.getvalue().strip()
    return [] if not failed and "Valid" in said else [said]


def written(entry):
    """A file as a server has it."""
    text = extract_contents(entry.get("content", ""), canonicalize_extraction(entry.get("encoding")))
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    return {"path": entry["path"], "text": text, "mode": entry.get("permissions", "0644")}


def judge(path):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    wrong, parts = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder, "templates_dir": folder})
        message = user_data.UserDataProcessor(paths).process(text)
        merging = CloudConfigPartHandler(paths)
        merging.handle_part(None, handlers.CONTENT_START, None, None, None, {})
        config = {}

        def part(_data, name, payload, headers):
            nonlocal config
            kind = headers["Content-Type"].split(";")[0].strip()
            if isinstance(payload, bytes):
                payload = payload.decode("utf-8")
            if kind != "text/cloud-config":
                parts.append({"type": kind, "name": name, "text": payload})
                return
            wrong.extend(schema(payload))
            before = len(merging.file_names)
            merging.handle_part(None, kind, name or "part", payload, None, headers)
            if len(merging.file_names) == before:
                wrong.append("a cloud-config that cannot be merged")
            config = merging.cloud_buf

        handlers.walk(message, part, data=None)
    wrong.extend(f"no module reads {name}" for name in sorted(set(config) - KNOWN - {"merge_how", "merge_type"}))
    if config:
        wrong.extend(schema("#cloud-config\n" + safeyaml.dumps(config)))
    files = [written(entry) for entry in (config or {}).get("write_files", [])]
    return {"file": path, "config": config, "files": files, "parts": parts, "wrong": wrong}


verdicts = [judge(path) for path in sys.argv[1:]]
for verdict in verdicts:
    print(json.dumps(verdict))
sys.exit(1 if any(verdict["wrong"] for verdict in verdicts) else 0)
PYTHON
