#!/bin/sh
# Installs the real sources that the tests run, each into a virtual environment of its own, once. Prints their folder.
set -eu
base="${HUB_EXEC_SOURCES:-$HOME/.cache/provincial-hub/exec}"
mkdir -p "$base"
exec 9>"$base/.lock"
flock 9
# install NAME PACKAGE==VERSION PROGRAM
install() {
    if [ ! -x "$base/$1/bin/$3" ] || [ "$(cat "$base/$1/.installed" 2>/dev/null)" != "$2" ]; then
        rm -rf "${base:?}/$1"
        python3 -m venv "$base/$1" >&2
        "$base/$1/bin/pip" install --quiet --disable-pip-version-check "$2" >&2
        echo "$2" >"$base/$1/.installed"
    fi
}
for wanted in "$@"; do
    case "$wanted" in
    tap-postgres) install tap-postgres pipelinewise-tap-postgres==1.8.4 tap-postgres ;;
    tap-mysql) install tap-mysql pipelinewise-tap-mysql==1.6.0 tap-mysql ;;
    meltano) install meltano meltanolabs-tap-postgres==0.10.0 tap-postgres ;;
    faker) install faker airbyte-source-faker==7.2.1 source-faker ;;
    file) install file airbyte-source-file==0.5.39 source-file ;;
    manifest) install manifest airbyte-cdk==7.39.1 source-declarative-manifest ;;
    *)
        echo "no source $wanted" >&2
        exit 1
        ;;
    esac
done
echo "$base"
