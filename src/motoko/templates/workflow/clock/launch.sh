set -e
python3 doIt.py
