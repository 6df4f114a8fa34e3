#!/bin/sh
# One program under five names: pass the call to the fake scheduler and print its answer. The call is
# a file that a line in the FIFO "calls" announces. The answer is two files and a line with the exit
# status. This starts few processes because tests wait for each of them.
here=${0%/*}/..
call=$here/call.$$
mkfifo -m 600 "$call.status" || exit 70
printf '%s\0' "${0##*/}" "$PWD" "${SLURM_BITSTR_LEN-64}" "$@" >"$call"
printf '%s\n' "$$" >"$here/calls"
read -r status <"$call.status"
[ -s "$call.out" ] && cat "$call.out"
[ -s "$call.err" ] && cat "$call.err" >&2
rm -f "$call" "$call.status" "$call.out" "$call.err"
exit "$status"
