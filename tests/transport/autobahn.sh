#!/bin/sh
# Runs Autobahn's fuzzing client against echo_server.py and fails if a case fails (groups 1-7, 9, 10; no compression).
# Not part of scripts/test: autobahntestsuite needs Python 2.7. The same rules are checked there by test_connection.py.
#   PYTHON27=/path/to/python2.7 tests/transport/autobahn.sh [PORT]     (about a minute)
# Python 2.7 needs the package virtualenv; reports are left in the folder that is printed.
set -eu
cd "$(dirname "$0")/../.."
port=${1:-9001}
work=${AUTOBAHN_DIR:-$(mktemp -d)}
if [ ! -x "$work/venv/bin/wstest" ]; then
    "${PYTHON27:-python2.7}" -m virtualenv -q "$work/venv"
    "$work/venv/bin/pip" install -q autobahntestsuite
fi
cat > "$work/spec.json" <<SPEC
{"outdir": "$work/reports", "servers": [{"agent": "recado", "url": "ws://127.0.0.1:$port"}],
 "cases": ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"],
 "exclude-cases": [], "exclude-agent-cases": {}}
SPEC
python tests/transport/echo_server.py "$port" &
server=$!
trap 'kill $server' EXIT
until python -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null; do sleep 0.1; done
"$work/venv/bin/wstest" -m fuzzingclient -s "$work/spec.json" > "$work/wstest.log" 2>&1
python - "$work/reports/index.json" <<'CHECK'
import collections, json, sys
cases = json.load(open(sys.argv[1]))["recado"]
print(sys.argv[1], len(cases), "cases", dict(collections.Counter(case["behavior"] for case in cases.values())))
accepted = {"OK", "NON-STRICT", "INFORMATIONAL"}
failed = [name for name, case in cases.items() if not {case["behavior"], case["behaviorClose"]} <= accepted]
sys.exit(f"failed: {failed}" if failed or len(cases) < 300 else 0)
CHECK
