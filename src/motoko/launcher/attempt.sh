# usage: sh attempt.sh RUN_DIRECTORY/.motoko-TOKEN [-k BOOT NAMESPACE HOST [-t TIME]] COMMAND [ARGUMENT...]
#
# Create the outbox of the attempt with its start record, run the command in the run directory, and
# append its exit status to the outbox. Without errors this uses builtins only: an external command
# would double the cost of a short run. The variables have names that no environment has, because
# the command would inherit a changed value.
#
# -k: the known facts of this machine and its PID namespace. -t: the time. The shell reads files byte
# by byte, so with the time it does not read its own facts: its arguments identify it, or for a shell
# of several attempts its working directory.
#
# Without arguments this only defines motoko_attempt. A launcher whose runs are short lets one shell
# run several attempts: for each it defines motoko_command and calls motoko_attempt.

# TERM to the process group ends the command; this shell survives to write the exit record.
motoko_stopped=
trap 'motoko_stopped=1' HUP INT TERM

# The command of the attempt, unless the launcher defines it.
motoko_command() {
    "$@"
}

# Run one attempt; set motoko_status to its exit status, or to 111 if it did not start.
motoko_attempt() {
    motoko_path=$1
    motoko_outbox=${1##*/}
    shift
    motoko_stopped=
    motoko_status=111
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
    cd "${motoko_path%/*}" 2>/dev/null && [ -f .motoko ] || return
    read -r motoko_number motoko_stamp motoko_token <.motoko
    [ "$motoko_outbox" = ".motoko-$motoko_token" ] || return

    # O_EXCL: the first to create the outbox decides whether the command runs: this shell, or a
    # launcher that reclaims the attempt.
    set -C
    { true; } 2>/dev/null >"$motoko_outbox" || motoko_path=
    set +C
    [ -n "$motoko_path" ] || return
    # Without space for the start record the attempt counts as never started.
    if [ -e "$motoko_path" ] && motoko_write_start_record; then
        motoko_run "$@"
    else
        rm -f "$motoko_outbox"
    fi
}

motoko_write_start_record() {
    { printf 'process %s %s %s %s %s %s\n' "$$" "${motoko_boot:--}" "${motoko_namespace:--}" "${motoko_host:--}" "${motoko_time:--}" "${motoko_stat:--}" >>"$motoko_outbox"; } 2>/dev/null
}

motoko_run() {
    motoko_ran=
    {
        motoko_command "$@"
        motoko_status=$? motoko_ran=1
    } >stdout 2>stderr
    if [ -z "$motoko_ran" ]; then
        rm -f "$motoko_outbox"
        return
    fi
    # On a full disk wait for space, until a signal arrives or the directory is removed.
    motoko_written=
    until motoko_write_exit_record && motoko_written=1; do
        [ -z "$motoko_stopped" ] && motoko_disk_is_full || break
        sleep 1
    done
    [ -n "$motoko_written" ] || motoko_write_exit_record
    [ ! -e "$motoko_outbox.full" ] || rm -rf "$motoko_outbox.full"
}

# A script can replace the outbox by anything; opening a FIFO would block forever.
motoko_write_exit_record() {
    if [ -L "$motoko_outbox" ] || [ -e "$motoko_outbox" ]; then
        [ ! -L "$motoko_outbox" ] && [ -f "$motoko_outbox" ] || rm -rf "$motoko_outbox"
    fi 2>/dev/null
    { printf '\nexit %s\n' "$motoko_status" >>"$motoko_outbox"; } 2>/dev/null
}

# Return whether the disk is too full for an exit record; dd reports it, the shell may not.
motoko_disk_is_full() {
    rm -rf "$motoko_outbox.full"
    motoko_words=$({ printf '%s\n' "$motoko_status" | LC_ALL=C dd of="$motoko_outbox.full"; } 2>&1)
    case $motoko_words in
    *"No space left"* | *"uota exceeded"*) return 0 ;;
    esac
    return 1
}

if [ $# -gt 0 ]; then
    motoko_attempt "$@"
    exit "$motoko_status"
fi
