# usage: sh attempt.sh RUN_DIRECTORY/.motoko-TOKEN [-k BOOT NAMESPACE HOST [-t TIME]] COMMAND [ARGUMENT...]
#
# Create the outbox of the attempt with its start record, run the command in the run directory, and
# append its exit status to the outbox. Without errors this uses builtins only: an external command
# would double the cost of a short run. The variables have names that no environment has, because
# the command would inherit a changed value.
#
# -k: the known facts of this machine and its PID namespace. -t: the time. The shell reads files byte
# by byte, so with the time it does not read its own facts: its arguments identify it.

# TERM to the process group ends the command; this shell survives to write the exit record.
motoko_stopped=
trap 'motoko_stopped=1' HUP INT TERM

motoko_path=$1
motoko_outbox=${1##*/}
shift
motoko_stat=
motoko_boot=
motoko_host=
motoko_namespace=
motoko_time=
if [ "$1" = -k ]; then
    motoko_boot=$2 motoko_namespace=$3 motoko_host=$4
    shift 4
    if [ "$1" = -t ]; then
        motoko_time=$2
        shift 2
    else
        IFS= read -r motoko_stat <"/proc/$$/stat"
    fi
elif [ -r "/proc/$$/stat" ]; then
    IFS= read -r motoko_stat <"/proc/$$/stat"
    IFS= read -r motoko_boot </proc/sys/kernel/random/boot_id
    read -r motoko_host </proc/sys/kernel/hostname
    # The inode of the PID namespace; fdinfo contains it since Linux 5.14.
    while read -r motoko_key motoko_value; do
        [ "$motoko_key" != ino: ] || motoko_namespace=$motoko_value
    done 2>/dev/null 3</proc/self/ns/pid </proc/self/fdinfo/3
fi
# Only bash knows the time without an external command.
if [ -n "$motoko_time" ]; then
    :
elif [ -n "${EPOCHREALTIME-}" ]; then
    motoko_time=$EPOCHREALTIME
elif [ -n "${BASH_VERSION-}" ]; then
    printf -v motoko_time '%(%s)T' -1
fi
motoko_stat=${motoko_stat##*) }

# A later attempt may have moved the run directory aside: this one starts in its own only.
cd "${motoko_path%/*}" 2>/dev/null && [ -f .motoko ] || exit 111
read -r motoko_number motoko_stamp motoko_token <.motoko
[ "$motoko_outbox" = ".motoko-$motoko_token" ] || exit 111

# Without space for the start record the attempt counts as never started.
not_started() {
    rm -f "$motoko_outbox"
    exit 111
}

# O_EXCL: the first to create the outbox decides whether the command runs: this shell, or a launcher
# that reclaims the attempt.
set -C
{ true; } 2>/dev/null >"$motoko_outbox" || exit 111
set +C
[ -e "$motoko_path" ] || not_started
{ printf 'process %s %s %s %s %s %s\n' "$$" "${motoko_boot:--}" "${motoko_namespace:--}" "${motoko_host:--}" "${motoko_time:--}" "${motoko_stat:--}" >>"$motoko_outbox"; } 2>/dev/null || not_started

motoko_status=
{
    "$@"
    motoko_status=$?
} >stdout 2>stderr
[ -n "$motoko_status" ] || not_started

# A script can replace the outbox by anything; opening a FIFO would block forever.
write_exit_record() {
    if [ -L "$motoko_outbox" ] || [ -e "$motoko_outbox" ]; then
        [ ! -L "$motoko_outbox" ] && [ -f "$motoko_outbox" ] || rm -rf "$motoko_outbox"
    fi 2>/dev/null
    { printf '\nexit %s\n' "$motoko_status" >>"$motoko_outbox"; } 2>/dev/null
}

# Return whether the disk is too full for an exit record; dd reports it, the shell may not.
disk_is_full() {
    rm -rf "$motoko_outbox.full"
    motoko_words=$({ printf '%s\n' "$motoko_status" | LC_ALL=C dd of="$motoko_outbox.full"; } 2>&1)
    case $motoko_words in
    *"No space left"* | *"uota exceeded"*) return 0 ;;
    esac
    return 1
}

# On a full disk wait for space, until a signal arrives or the directory is removed.
motoko_written=
until write_exit_record && motoko_written=1; do
    [ -z "$motoko_stopped" ] && disk_is_full || break
    sleep 1
done
[ -n "$motoko_written" ] || write_exit_record
[ ! -e "$motoko_outbox.full" ] || rm -rf "$motoko_outbox.full"
exit "$motoko_status"
