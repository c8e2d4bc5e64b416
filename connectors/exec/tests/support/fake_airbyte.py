"""A made-up Airbyte source on the standard library alone: rows of files that a test changes, and every way to misbehave.

`config.folder` holds one file `<stream>.log` for each stream: JSON lines {"rev", "row", "deleted"}. The state is the last rev.
"""
import argparse
import json
import os
import subprocess
import sys
import time


def say(**message):
    sys.stdout.write(json.dumps(message) + "\n")


def fail(kind, message, stream=None, internal=None):
    error = {"message": message, "internal_message": internal or message, "failure_type": kind}
    if stream:
        error["stream_descriptor"] = {"name": stream}
    say(type="TRACE", trace={"type": "ERROR", "emitted_at": 1, "error": error})
    sys.stdout.flush()
    sys.exit(1)


def rows(config, stream):
    """The last entry of each row, oldest change first."""
    last = {}
    with open(os.path.join(config["folder"], stream + ".log")) as log:
        for line in log.read().split("\n"):
            if line:
                entry = json.loads(line)
                last.pop(entry["row"]["id"], None)
                last[entry["row"]["id"]] = entry
    return list(last.values())


def schema(config, stream):
    with open(os.path.join(config["folder"], stream + ".schema")) as text:
        return json.load(text)


def streams(config):
    return sorted(name[:-4] for name in os.listdir(config["folder"]) if name.endswith(".log"))


def discover(config):
    return [
        {
            "name": stream,
            "json_schema": schema(config, stream),
            "supported_sync_modes": ["full_refresh", "incremental"],
            "source_defined_cursor": True,
            "source_defined_primary_key": [["id"]],
        }
        for stream in streams(config)
    ]


def state_of(config, states, stream):
    for state in states if isinstance(states, list) else []:
        if state["type"] == "GLOBAL":
            for one in state["global"]["stream_states"]:
                if one["stream_descriptor"]["name"] == stream:
                    return one["stream_state"]["rev"]
        elif state["stream"]["stream_descriptor"]["name"] == stream:
            return state["stream"]["stream_state"]["rev"]
    return states.get(stream, 0) if isinstance(states, dict) else 0


def tell_state(config, revs, stream):
    form = config.get("state", "stream")
    one = lambda name: {"stream_descriptor": {"name": name}, "stream_state": {"rev": revs[name]}}
    if form == "global":
        shared = {"rev": max(revs.values())}
        say(type="STATE", state={"type": "GLOBAL", "global": {"shared_state": shared, "stream_states": [one(name) for name in revs]}})
    elif form == "stream":
        say(type="STATE", state={"type": "STREAM", "stream": one(stream)})
    else:
        say(type="STATE", state={"data": dict(revs)})


def misbehave(config):
    how = config.get("misbehave")
    if how == "eat":
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20)))
            time.sleep(0.002)
    elif how == "eat-in-a-child":
        subprocess.run([sys.executable, "-c", "import os, time\nheld = os.urandom(200 << 20)\ntime.sleep(600)"])
    elif how == "hang":
        time.sleep(600)
    elif how == "ignore-term":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen([sys.executable, "-c", "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)"])
        with open(os.path.join(config["folder"], "pids"), "w") as pids:
            pids.write("%d %d" % (os.getpid(), grandchild.pid))
        time.sleep(600)
    elif how == "leave-a-child":
        subprocess.Popen([sys.executable, "-c", "import time\ntime.sleep(600)"])
    elif how == "garbage":
        sys.stdout.write("Starting with 079090000001 …\n{not json\n[1, 2]\n" + json.dumps({"level": "info"}) + "\n\n")
    elif how == "huge":
        sys.stdout.write(json.dumps({"type": "RECORD", "record": {"stream": "nguoi", "data": {"id": 1, "name": "x" * (3 << 20)}}}) + "\n")
    elif how == "torn":
        sys.stdout.write('{"type":"RECORD","record":{"stream":"nguoi","data":{"id":1,"name":"079090000001"\n')
    elif how in ("die-in-a-line", "end-in-a-line"):
        sys.stdout.write('{"type":"RECORD","record":{"stream":"nguoi","data":{"id":1,"na')
        sys.stdout.flush()
        if how == "die-in-a-line":
            os.kill(os.getpid(), 9)
        os._exit(0)
    elif how == "drip":
        for number in range(150):
            say(type="RECORD", record={"stream": "nguoi", "data": {"id": number, "name": "x"}, "emitted_at": 1})
            sys.stdout.flush()
            time.sleep(0.02)
    elif how == "speak":
        sys.stderr.write("mật khẩu là %s của 079090000001\n" % config["password"])
        sys.exit(3)
    elif how == "change-config":
        seen = os.path.join(config["folder"], "tokens")
        with open(seen, "a") as tokens:
            tokens.write(config["token"] + "\n")
        say(type="CONTROL", control={"type": "CONNECTOR_CONFIG", "emitted_at": 1, "connectorConfig": {"config": dict(config, token=config["token"] + "+")}})
    elif how == "environment":
        with open(os.path.join(config["folder"], "environment"), "w") as file:
            json.dump(dict(os.environ), file)


def read(config, catalog, states):
    misbehave(config)
    names = [entry["stream"]["name"] for entry in catalog["streams"]]
    revs = {name: state_of(config, states, name) for name in names}
    broken = []
    for entry in catalog["streams"]:
        name, data = entry["stream"]["name"], None
        descriptor = {"name": name}
        say(type="TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": descriptor, "status": "STARTED"}})
        if name in config.get("broken", []):
            broken.append(name)
            say(type="TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": descriptor, "status": "INCOMPLETE"}})
            continue
        is_whole = entry["sync_mode"] == "full_refresh"
        since = 0 if is_whole else revs[name]
        told = 0
        for change in rows(config, name):
            # A cursor is read from its last value on, as most sources do.
            if change["rev"] < since or (change.get("deleted") and (is_whole or not since)):
                continue
            data = dict(change["row"])
            if change.get("deleted"):
                data["_ab_cdc_deleted_at"] = "2026-01-01T00:00:00Z"
            say(type="RECORD", record={"stream": name, "data": data, "emitted_at": 1})
            revs[name] = max(revs[name], change["rev"])
            told += 1
            if told % config.get("state_every", 50) == 0 and not is_whole:
                tell_state(config, revs, name)
            if told == config.get("die_after"):
                sys.stdout.flush()
                os.kill(os.getpid(), 9)
        if not is_whole:
            tell_state(config, revs, name)
        say(type="TRACE", trace={"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": descriptor, "status": "COMPLETE"}})
    if broken:
        fail("system_error", "unexpected answer of the list", broken[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    for name in ("config", "catalog", "state"):
        parser.add_argument("--" + name)
    given = parser.parse_args()
    load = lambda path: json.load(open(path)) if path else None
    config, catalog, states = load(given.config), load(given.catalog), load(given.state)
    if given.verb == "spec":
        properties = {"folder": {"type": "string"}, "password": {"type": "string", "airbyte_secret": True}}
        return say(type="SPEC", spec={"connectionSpecification": {"type": "object", "required": ["folder", "password"], "properties": properties}})
    is_refused = config["password"] != "mat khau"
    is_cut = os.path.exists(os.path.join(config["folder"], "cut"))
    if given.verb == "check":
        if is_refused or is_cut:
            why = "invalid credentials: " + config["password"] if is_refused else "connection refused"
            return say(type="CONNECTION_STATUS", connectionStatus={"status": "FAILED", "message": why})
        return say(type="CONNECTION_STATUS", connectionStatus={"status": "SUCCEEDED"})
    if is_refused:
        fail("config_error", "the list refuses the login", internal="401 Client Error: Unauthorized for " + config["password"])
    if is_cut:
        fail("transient_error", "the list does not answer")
    if given.verb == "discover":
        return say(type="CATALOG", catalog={"streams": discover(config)})
    read(config, catalog, states)


main()
