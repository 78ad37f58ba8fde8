"""Compares the scalars and the configuration in a run's event files with its other files: tensorboard_read.py RUN"""

import json
import struct
import sys
import textwrap

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main(run):
    metrics = {}
    with open(f"{run}/metrics.jsonl", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            metrics[entry["step"]] = entry
    assert len(metrics) > 7 and {entry["attempt"] for entry in metrics.values()} == {1, 2}, "the run did not go on"

    expected = {"train/loss": {}, "train/grad_norm": {}, "train/lr": {}, "performance/tokens_per_second": {}}
    for step, entry in metrics.items():
        for tag, values in expected.items():
            if not tag.startswith("validation/"):
                values[step] = entry[tag.split("/")[1]]
        for source, loss in entry["validation_loss"].items():
            expected.setdefault(f"validation/{source}", {})[step] = loss

    events = EventAccumulator(f"{run}/tensorboard", size_guidance={"scalars": 0})
    events.Reload()
    for tag, values in expected.items():
        got = {event.step: event.value for event in events.Scalars(tag)}
        assert got == {step: as_float32(value) for step, value in values.items()}, f"{tag}: {got} is not {values}"
        print(f"{tag}: {len(got)} values equal")

    # Every attempt writes its configuration; equal steps are one event for the reader.
    assert events.SummaryMetadata("configuration").plugin_data.plugin_name == "text", "no text for the tab Text"
    text = events.Tensors("configuration")[-1].tensor_proto.string_val[0].decode()
    assert all(line.startswith("    ") for line in text.splitlines()), "the configuration is not shown as it is"
    with open(f"{run}/config.resolved.yaml", encoding="utf-8") as file:
        assert textwrap.dedent(text) == file.read(), "the configuration is another one"
    print("configuration: equal")


main(sys.argv[1])
