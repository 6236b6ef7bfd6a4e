#!/bin/sh
# The kill rounds of `make test`.
exec python3 "$(dirname "$0")/kill.py" "$@"
