# Runs in a directory of its own, where doIt.py was copied to. Exit status 0 means FINISHED, any
# other FAILED. Shell scripts find the parameters in variables: $MOTOKO_JOB_LENGTH.
set -e
python3 doIt.py
