# Each run executes this script in its own directory, with a copy of doIt.py. Exit status 0 means
# FINISHED, any other FAILED. Variables hold the parameters: $MOTOKO_JOB_LENGTH.
set -e
python3 doIt.py
