"""Prints step:value of one tag as TensorBoard's own reader sees it: read_events.py FOLDER TAG."""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

reader = EventAccumulator(sys.argv[1])
reader.Reload()
print(" ".join(f"{event.step}:{event.value}" for event in reader.Scalars(sys.argv[2])))
