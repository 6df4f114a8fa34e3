# usage: sh wrapper.sh RUN_DIRECTORY/.motoko/TOKEN COMMAND [ARGUMENT...]
#
# The wrapper of the earlier layout, for launchers that were started before an upgrade and still run.
#
# Create the start file of the attempt, run the command in the run directory, and write its exit
# status to the exit record. Without errors this uses builtins only: an external command would double
# the cost of a short run. The variables have names that no environment has, because the command
# would inherit a changed value.

# TERM to the process group ends the command; this shell survives to write the exit record.
motoko_stopped=
trap 'motoko_stopped=1' HUP INT TERM

motoko_attempt=$1
shift
motoko_stat=
motoko_boot=
motoko_host=
motoko_namespace=
if [ -r "/proc/$$/stat" ]; then
    IFS= read -r motoko_stat <"/proc/$$/stat"
    IFS= read -r motoko_boot </proc/sys/kernel/random/boot_id
    IFS= read -r motoko_host </proc/sys/kernel/hostname
    # The inode of the PID namespace; fdinfo contains it since Linux 5.14.
    while read -r motoko_key motoko_value; do
        [ "$motoko_key" != ino: ] || motoko_namespace=$motoko_value
    done 2>/dev/null 3</proc/self/ns/pid </proc/self/fdinfo/3
fi

# Without space for the start file the attempt counts as never started.
not_started() {
    rm -f "$motoko_attempt/start"
    exit 111
}

# O_EXCL: the first to create the start file decides whether the command runs: this shell, or a
# launcher that reclaims the attempt.
set -C
{ true; } 2>/dev/null >"$motoko_attempt/start" || exit 111
set +C
{ printf 'process %s\n%s\n%s\n%s\n%s\n' "$$" "$motoko_boot" "$motoko_stat" "$motoko_namespace" "$motoko_host" >"$motoko_attempt/start"; } 2>/dev/null || not_started

cd "${motoko_attempt%/.motoko/*}" || not_started
motoko_status=
{
    "$@"
    motoko_status=$?
} >stdout 2>stderr
[ -n "$motoko_status" ] || not_started

# A script can replace the exit record by anything; opening a FIFO would block forever.
make_writable() {
    [ -w "$motoko_attempt" ] || return 1
    [ -L "$motoko_attempt/exit" ] || [ -e "$motoko_attempt/exit" ] || return 0
    [ ! -L "$motoko_attempt/exit" ] && [ -f "$motoko_attempt/exit" ] && [ -w "$motoko_attempt/exit" ] && return 0
    rm -rf "$motoko_attempt/exit" 2>/dev/null
    [ ! -L "$motoko_attempt/exit" ] && [ ! -e "$motoko_attempt/exit" ]
}

# Return whether the disk is too full for an exit record; dd reports it, the shell may not.
disk_is_full() {
    motoko_words=$({ printf 'exit %s\n' "$motoko_status" | LC_ALL=C dd of="$motoko_attempt/exit"; } 2>&1)
    case $motoko_words in
    *"No space left"* | *"uota exceeded"*) return 0 ;;
    esac
    return 1
}

# On a full disk wait for space, until a signal arrives or the directory is removed.
until make_writable && { printf 'exit %s\n' "$motoko_status" >"$motoko_attempt/exit"; } 2>/dev/null; do
    if [ -n "$motoko_stopped" ] || [ ! -d "$motoko_attempt" ] || ! make_writable || ! disk_is_full; then
        break
    fi
    sleep 1
done
exit "$motoko_status"
