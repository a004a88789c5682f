exec python3 -B record.py
